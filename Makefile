# make setup        create .venv with the pinned dependencies and the command `ssd`
# make demo         draw images of shapes, convert them, train a detector, write its report and draw its predictions;
#                   DATA=<folder> uses your own images instead, for 20 epochs, in COCO's layout, or in that of FORMAT=voc or
#                   FORMAT=yolo
# make doctor       check whether this machine can train, and say what to do; CONFIG=<recipe> checks the recipe too
# make ascend-check check the graphs of all recipes for Ascend NPUs, without an NPU; takes an hour; CONFIG=<recipe> checks one
# make test         run every test; tests that need PyTorch are skipped if it is not installed
# make test-fast    run the tests that start no training, no launch and no browser: 3 minutes on 2 cores
# make lint         check style, format and types, and the Dockerfiles
# make docs         write the generated files of the documentation: the pages of recipe keys and the drawing of the package
# make test-torch   install PyTorch's CPU build, and test that converted weights give PyTorch's outputs
# make docs-images make the pictures of the documentation again; takes an hour. BCCD=<folder> is the BCCD blood cells in
#                   Pascal VOC's layout: git clone https://github.com/Shenggan/BCCD_Dataset
# make soak         kill a training run up to 20 times, and compare it with an uninterrupted one; takes a quarter of an hour
# All commands can be repeated.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
SSD := examples/det/ssd
.SHELLFLAGS := -eu -c

ifdef DATA
NAME := own
EPOCHS := --epoch_size 20
else
NAME := shapes
DATA := data/shapes/coco
endif
FORMAT ?= coco
# One more test process than cores, because tests of launches wait for other processes.
PYTEST := $(RUN) -m pytest -n $(shell echo $$(( $$(nproc) + 1 < 4 ? $$(nproc) + 1 : 4 ))) --dist loadfile --no-loadscope-reorder
RECORDS := data/$(NAME)/records

.PHONY: setup demo doctor ascend-check test test-fast test-torch lint docs docs-images soak

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 12) else f"PYTHON is Python {v[0]}.{v[1]}, but MindSpore has packages only for 3.10 to 3.12. Run make PYTHON=python3.11.")'
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

demo: setup
ifeq ($(NAME),shapes)
	$(RUN) tools/make_shapes.py $(DATA) --overwrite
endif
	$(RUN) $(SSD)/create_data.py $(FORMAT) --data_path '$(DATA)' --out_path $(RECORDS) --overwrite
	$(RUN) $(SSD)/train.py --config $(SSD)/ssd_shapes.yaml --data_dir $(RECORDS) --ckpt_save_dir ckpt/$(NAME) $(EPOCHS)
	$(RUN) $(SSD)/eval.py --config $(SSD)/ssd_shapes.yaml --data_dir $(RECORDS) --ckpt_save_dir ckpt/$(NAME) --output_dir output/$(NAME)
	images='$(DATA)/val2017'; test -d "$$images" || images='$(DATA)'; \
	find -L "$$images" -type f ! -name '.*' -iregex '.*\.\(jpe?g\|png\|bmp\|webp\|tiff?\)' \
	    | sort | sed -n 1,20p | xargs -d '\n' \
	    $(RUN) $(SSD)/predict.py --config $(SSD)/ssd_shapes.yaml --data_dir $(RECORDS) --ckpt_save_dir ckpt/$(NAME) \
	    --output output/$(NAME)/predictions --input
	@echo 'report: open output/$(NAME)/report.html; annotated images: output/$(NAME)/predictions; training: ckpt/$(NAME)/metrics.csv'

ascend-check: setup
	$(RUN) tools/ascend_check.py $(if $(CONFIG),--config '$(CONFIG)')

doctor: setup
	$(RUN) tools/doctor.py $(if $(CONFIG),--config '$(CONFIG)')

test: setup
	$(PYTEST)

test-fast: setup
	$(PYTEST) -m 'not slow'

test-torch: setup
	$(RUN) -m pip install --quiet --disable-pip-version-check --extra-index-url https://download.pytorch.org/whl/cpu -e '.[torch]'
	$(RUN) -m pytest tests/tools/test_convert_weights_torch.py

lint: setup
	$(RUN) -m ruff check examples tools tests
	$(RUN) -m ruff format --check examples tools tests
	$(RUN) -m mypy
	$(VENV)/bin/hadolint Dockerfile Dockerfile.ascend

docs: setup
	$(RUN) tools/make_docs.py

BCCD ?= BCCD_Dataset/BCCD
CELLS := --config $(SSD)/ssd_mobilenetv2_plus.yaml --data_dir data/bccd --ckpt_save_dir ckpt/bccd --output_dir output/bccd
docs-images: setup
	test -f output/shapes/report.html || $(MAKE) demo
	$(RUN) $(SSD)/create_data.py voc --data_path '$(BCCD)' --out_path data/bccd --train_split trainval --val_split test --overwrite
	$(RUN) $(SSD)/train.py $(CELLS) --backbone_ckpt_path '' --batch_size 8 --epoch_size 40 --lr 0.02 --log_interval 12 \
	    --eval_while_train true --eval_interval 2
	$(RUN) $(SSD)/eval.py $(CELLS)
	$(RUN) tools/anchors.py --config $(SSD)/ssd_mobilenetv2_plus.yaml --data_dir data/bccd --output output/bccd
	$(RUN) tools/docs_images.py --bccd '$(BCCD)'

soak: setup
	$(RUN) tools/soak.py
