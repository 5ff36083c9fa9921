#!/usr/bin/env bash
# What is to be measured where a GPU is at hand, in ten minutes: bash benchmarks/gpu.sh [OUT] [IMAGES]
# OUT gets the figures and what was said (default: gpu-out); IMAGES is a folder of photographs for W-Net's preset `paper`.
# Figures go into docs/benchmark.md, with the card named. SELFSEG_DEVICE=cpu rehearses it all on small images.
set -uo pipefail
OUT=$(realpath -m "${1:-gpu-out}")
IMAGES=${2:-}
DEVICE=${SELFSEG_DEVICE:-cuda}
PYTHON=${PYTHON:-python}
END=$((SECONDS + ${SELFSEG_SECONDS:-600}))
SMALL=()
[ "$DEVICE" = cpu ] && SMALL=(--scale 8 --seconds 1)
cd "$(dirname "$0")/.."
mkdir -p "$OUT"
export SELFSEG_REAL_GPU=$([ "$DEVICE" = cuda ] && echo 1)

run() { # run NAME SECONDS COMMAND...: at most that long, and what it says is kept
  local name=$1 most=$2 left=$((END - SECONDS))
  shift 2
  [ "$left" -lt 5 ] && { echo "== $name: no time left"; return; }
  echo "== $name"
  timeout "$((most < left ? most : left))" "$@" 2>&1 | tee "$OUT/$name.log"
  echo "== $name ended with ${PIPESTATUS[0]}"
}

run doctor 60 "$PYTHON" -m selfseg doctor
run contract 120 "$PYTHON" -m pytest -q -m "slow or not slow" tests/gpu/test_contract_on_gpu.py tests/kernels/test_ncut_triton.py
run twice 60 "$PYTHON" benchmarks/speed/on_gpu.py twice --device "$DEVICE" "${SMALL[@]}" -o "$OUT/twice.json"
run memory 40 "$PYTHON" benchmarks/speed/on_gpu.py memory --device "$DEVICE" "${SMALL[@]}" -o "$OUT/memory.json"
run soft_ncut 60 "$PYTHON" benchmarks/speed/soft_ncut.py --device "$DEVICE" --repeats 5 -o "$OUT/soft_ncut.json"
run steps 150 "$PYTHON" benchmarks/speed/on_gpu.py steps --device "$DEVICE" "${SMALL[@]}" -o "$OUT/steps.json"
if [ -n "$IMAGES" ] && [ $((END - SECONDS)) -gt 20 ]; then # the curve is in OUT/wnet-paper/journal.jsonl
  LEFT=$((END - SECONDS - 10))
  run wnet-paper "$LEFT" timeout -s INT "$((LEFT - 5))" "$PYTHON" -m selfseg fit "$IMAGES" \
    --method wnet --preset paper --device "$DEVICE" -o "$OUT/wnet-paper" --overwrite
fi
