"""Serve an exported model over HTTP, with a page to drop photographs on:

    python examples/det/ssd/serve.py --model output/ssd_shapes_onnx [--host 127.0.0.1] [--port 8000]

DIR is a folder with an ONNX model that export.py has written. The first line of the output is the address of the page.
The service needs the extra `serve`: pip install -e '.[serve]'

    POST /detect        image files, as the body or in a multipart form; the answer is JSON like COCO's results
    POST /huggingface   an image file; the answer has the schema of Hugging Face's task object-detection
    /v2                 Open Inference Protocol v2, for Triton's and KServe's clients
    GET /metrics        metrics for Prometheus
    GET /docs           all paths, with a form to try them

There is no authentication and no encryption. By default only this machine can connect. Let a reverse proxy such as
nginx check users and encrypt, before --host lets other machines connect.

Ctrl-C and SIGTERM stop the server after its running requests. Nothing that clients send is written to the disk.
"""

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse

from ssd.deployment.server.settings import ServerSettings
from ssd.errors import exit_cleanly

DEFAULTS = ServerSettings()
LIMITS = {
    "batch_size": "largest number of images in a batch; a model with a fixed batch size uses that size",
    "queue_size": "largest number of waiting images; more get status 429",
    "max_bytes": "largest size of a request in bytes",
    "max_pixels": "largest size of an image in pixels",
    "timeout": "seconds in which a request must be answered",
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="folder of an exported model")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all [127.0.0.1]")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 for a free one [8000]")
    parser.add_argument("--provider", default="cpu", help="device of onnxruntime: cpu, cuda or cann [cpu]")
    for name, text in LIMITS.items():
        default = getattr(DEFAULTS, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{text} [{default}]")
    return parser.parse_args()


@exit_cleanly(prints_results=False)
def main() -> None:
    args = parse_args()
    from ssd.deployment.server.start import serve

    settings = ServerSettings(**{name: getattr(args, name) for name in LIMITS})
    serve(args.model, settings, host=args.host, port=args.port, provider=args.provider)


if __name__ == "__main__":
    main()
