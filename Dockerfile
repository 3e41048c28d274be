# SSD on a CPU: train, evaluate, predict, export and serve. Dockerfile.ascend is for Ascend NPUs.
#
#   docker build --network=host -t ssd .
#   docker run --rm -it -v path/to/your/coco:/coco -v path/to/trained_models:/trained_models --ipc=host --network=host ssd
#
# A service instead of the shell, for a model that `ssd export` wrote to /trained_models/output:
#
#   docker run --rm -p 127.0.0.1:8000:8000 -v path/to/trained_models:/trained_models ssd ssd serve --model output/ssd_mobilenetv2_onnx --host 0.0.0.0
#
# Write your own folders as absolute paths: Docker takes other names for those of volumes.
# The container starts a shell in the root of the project, where the commands of README.md run as they are written:
#   cocodataset  links to /coco, which is only read; `-v path/to/your/coco:/coco:ro` works too
#   ckpt         links to /trained_models
#   data, output link to /trained_models/data and /trained_models/output, so that shards and reports outlive the container
# Other folders and weights are mounted in the same way, for example `-v path/to/photos:/ssd/photos`.
#
# The commands run as user 1000. If /trained_models is not writable for that user, run the container as yourself: add
#   --user "$(id -u):$(id -g)"
# to `docker run`. Create path/to/trained_models first, because Docker creates missing folders as root.
FROM python:3.11.14-slim-bookworm

# libgomp1: MindSpore's CPU kernels need OpenMP, which the slim image lacks.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

# HOME is set, because a user of --user has no entry in /etc/passwd. Compiled graphs are cached there.
RUN useradd --create-home --uid 1000 ssd && chmod a+rwx /home/ssd
ENV HOME=/home/ssd PYTHONUNBUFFERED=1

# The packages are a layer of their own, which changes only with the lock file. pip compares each with its hashes there.
# MindSpore's libraries for GPUs and NPUs, 1.6 of its 2.5 GB, are of no use here.
WORKDIR /ssd
COPY requirements/serve.txt requirements/
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/serve.txt \
    && rm -rf /usr/local/lib/python3.11/site-packages/mindspore/lib/plugin/ascend \
        /usr/local/lib/python3.11/site-packages/mindspore/lib/plugin/gpu*

COPY . .
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --editable . \
    && ln -s /coco cocodataset \
    && ln -s /trained_models ckpt \
    && ln -s /trained_models/data data \
    && ln -s /trained_models/output output \
    && mkdir -p /coco /trained_models \
    && chmod a+rwx /trained_models \
    && chmod -R a+rwX /ssd

USER 1000
# The port of `ssd serve`. There is no HEALTHCHECK, because most containers train; GET /v2/health/ready tells about a service.
EXPOSE 8000
ENTRYPOINT ["tools/docker_entrypoint.sh"]
CMD ["bash"]
