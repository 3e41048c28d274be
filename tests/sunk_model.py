"""MindSpore's Model with its own loop of data sinking on a CPU: only the queue of the device is replaced."""

import math

from mindspore.train import Model


class SunkModel(Model):
    """Model that trains through MindSpore's `_train_dataset_sink_process`, which MindSpore itself skips on a CPU.

    A group of sink_size steps runs without any callback, as on an NPU.
    """

    def _train_process(
        self, epoch, train_dataset, list_callback=None, cb_params=None, initial_epoch=0, valid_infos=None
    ):
        arguments = epoch, train_dataset, list_callback, cb_params, cb_params.batch_num, initial_epoch, valid_infos
        self._train_dataset_sink_process(*arguments)

    def _exec_preprocess(self, is_train, dataset, dataset_sink_mode, sink_size=-1, epoch_num=1, dataset_helper=None):
        helper = dataset_helper or _DeviceQueue(self._train_network, dataset, sink_size, epoch_num)
        self._train_network.set_train(is_train)
        self._backbone_is_train = is_train
        return helper, helper.run_group


class _DeviceQueue:
    """DatasetHelper and network of data sinking."""

    def __init__(self, network, dataset, sink_size, epoch_num):
        # MindSpore resets other initial steps to a multiple of the sink size, and would wait for missing batches.
        assert dataset.get_init_step() % sink_size == 0
        assert epoch_num == math.ceil(dataset.__total_batch__ / dataset.get_dataset_size())
        self.network, self.size = network, sink_size
        iterator = dataset.create_tuple_iterator(num_epochs=epoch_num)
        self.batches = (batch for _ in range(epoch_num) for batch in iterator)

    def run_group(self):
        for _ in range(self.size):
            outputs = self.network(*next(self.batches))
        return outputs

    def __iter__(self):
        return iter([()])

    def sink_size(self):
        return self.size

    def continue_send(self):
        pass

    stop_send = release = continue_send
