#!/usr/bin/env bash
# What is to be measured where a GPU is at hand, in ten minutes: bash benchmarks/gpu.sh [OUT] [IMAGES]
# OUT gets the figures and what was said (default: gpu-out); IMAGES is a folder of photographs for W-Net's preset `paper`.
# Figures go into docs/benchmark.md, with the card named. SELFSEG_DEVICE=cpu rehearses every part on small images, as long as it takes,
# and ends with 1 if one of them failed.
set -uo pipefail
OUT=$(realpath -m "${1:-gpu-out}")
IMAGES=${2:+$(realpath -m "$2")}
DEVICE=${SELFSEG_DEVICE:-cuda}
PYTHON=${PYTHON:-python}
SMALL=() CUT=() PAPER=() KINDS="slow or not slow" SLOWER=1
if [ "$DEVICE" = cpu ]; then
  SMALL=(--scale 8 --seconds 1)
  CUT=(--case "224x224, r=5, K=4" --repeats 1 --threads 1)
  PAPER=(--set iterations=2 --set width=4 --prepare size=64,auto --limit 2)
  KINDS="not slow" SLOWER=20
fi
END=$((SECONDS + SLOWER * ${SELFSEG_SECONDS:-600}))
FAILED=0
cd "$(dirname "$0")/.."
mkdir -p "$OUT"
export SELFSEG_REAL_GPU=$([ "$DEVICE" = cuda ] && echo 1)

run() { # run NAME SECONDS COMMAND...: at most that long, and what it says is kept
  local name=$1 most=$(($2 * SLOWER)) left=$((END - SECONDS)) begun=$SECONDS code
  shift 2
  [ "$left" -lt 5 ] && { echo "== $name: no time left"; return; }
  echo "== $name"
  timeout "$((most < left ? most : left))" "$@" 2>&1 | tee "$OUT/$name.log"
  code=${PIPESTATUS[0]}
  [ "$code" = 0 ] || FAILED=1
  echo "== $name ended with $code after $((SECONDS - begun)) s"
}

run doctor 60 "$PYTHON" -m selfseg doctor
run contract 120 "$PYTHON" -m pytest -q -m "$KINDS" tests/gpu/test_contract_on_gpu.py tests/kernels/test_ncut_triton.py
run twice 60 "$PYTHON" benchmarks/speed/on_gpu.py twice --device "$DEVICE" "${SMALL[@]}" -o "$OUT/twice.json"
run memory 40 "$PYTHON" benchmarks/speed/on_gpu.py memory --device "$DEVICE" "${SMALL[@]}" -o "$OUT/memory.json"
run ahead 40 "$PYTHON" benchmarks/speed/on_gpu.py ahead --device "$DEVICE" "${SMALL[@]}" -o "$OUT/ahead.json"
run soft_ncut 60 "$PYTHON" benchmarks/speed/soft_ncut.py --device "$DEVICE" --repeats 5 "${CUT[@]}" -o "$OUT/soft_ncut.json"
run steps 150 "$PYTHON" benchmarks/speed/on_gpu.py steps --device "$DEVICE" "${SMALL[@]}" -o "$OUT/steps.json"
if [ -n "$IMAGES" ] && [ $((END - SECONDS)) -gt 20 ]; then # the curve is in OUT/wnet-paper/journal.jsonl
  LEFT=$((END - SECONDS - 10))
  run wnet-paper "$LEFT" timeout -s INT "$((LEFT - 5))" "$PYTHON" -m selfseg fit "$IMAGES" \
    --method wnet --preset paper --device "$DEVICE" "${PAPER[@]}" -o "$OUT/wnet-paper" --overwrite
fi
[ "$DEVICE" = cuda ] || exit "$FAILED"
