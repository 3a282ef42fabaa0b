#!/usr/bin/env bash
# Runs the engine's correctness tests on a CUDA machine, in one call and without a network:
# exact logits against transformers on the device (float32), half precision, copies between
# device memory and L2 on their own stream, FlashInfer against torch where it is installed,
# two ranks over NCCL where there are two devices.
#
#   scripts/gpu_check.sh [pytest options]
#
# Needs: a python3 (or $PYTHON) with torch >= 2.11 for CUDA, transformers, safetensors, numpy,
# pytest, pytest-timeout and hypothesis; msgspec, pydantic and gguf too, or their wheels in a
# folder .whl beside this repository's README, from which they are installed for this run
# alone. The native modules are not needed: nothing that runs on the device uses them.
#
# To carry the wheels to a machine without a package index (for its Python 3.12 here):
#
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
#     --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 -d .whl \
#     msgspec pydantic==2.14.3 pydantic-core==2.50.4 annotated-types typing-inspection gguf
#
# (pydantic-core's version is the one that pydantic's metadata names.) Exit status: pytest's;
# 2 if the machine lacks something, which is named.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
export PYTHONPATH="$PWD/engine:$PWD/tests"

if compgen -G ".whl/*.whl" >/dev/null; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
    --target "$scratch/site" .whl/*.whl
  export PYTHONPATH="$PYTHONPATH:$scratch/site"
fi

"$python" - <<'PYTHON' || exit 2
import importlib.util
import sys

needed = "torch transformers safetensors numpy pytest pytest_timeout hypothesis msgspec pydantic gguf"
missing = [name for name in needed.split() if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"error: {sys.executable} lacks {', '.join(missing)}\n"
             "hint: the head of scripts/gpu_check.sh says how to carry wheels")
import torch

if not torch.cuda.is_available():
    sys.exit(f"error: torch {torch.__version__} sees no CUDA device")
for number in range(torch.cuda.device_count()):
    print(f"device {number}: {torch.cuda.get_device_name(number)}, torch {torch.__version__}")
PYTHON

# Another torch and another Python warn of other things than those that CI knows.
"$python" -m pytest tests/engine/model tests/engine/runner -m gpu -W default \
  -p no:cacheprovider "$@"
