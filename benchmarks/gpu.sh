#!/usr/bin/env bash
# What only a machine with a GPU can show, in ten minutes at most: `make gpu-check`. Each part's output stays in FOLDER.
# On a CPU, this tries the script: TRAINER=default STEPS=20 TOGETHER=2 ROUNDS=2 make gpu-check
set -uo pipefail
cd "$(dirname "$0")/.." || exit
export WANDB_MODE=offline
python=${PYTHON:-.venv/bin/python} folder=${FOLDER:-outputs/gpu-check-$(date +%F-%H%M%S)} trainer=${TRAINER:-gpu} steps=${STEPS:-20000}
together=${TOGETHER:-16 64} rounds=${ROUNDS:-3}
mkdir -p "$folder"
failed=()

part() { # NAME SECONDS COMMAND…
  local name=$1 limit=$2
  shift 2
  local start=$SECONDS
  echo "== $name: $*"
  timeout --kill-after=5 "$limit" "$@" 2>&1 | tee "$folder/$name.log" || failed+=("$name")
  echo "== $name: $((SECONDS - start)) s"
}

run=(trainer="$trainer" model=conv metrics=fast)
part tests 120 "$python" -m pytest -n 0 -m 'slow or not slow' tests/test_gpu.py tests/test_stacked.py
part run 110 "$python" train.py "${run[@]}" trainer.max_steps="$steps" hydra.run.dir="$folder/run"
part resume 50 "$python" train.py run="$folder/run" trainer.max_steps=$((steps + steps / 10))
# shellcheck disable=SC2086  # a word for each number of models
part bench 220 "$python" benchmarks/speed.py --trainer "$trainer" --models conv --batch-sizes 64 --rounds "$rounds" --together $together
part together 90 "$python" train.py -m "seed=range(${together%% *})" hydra/launcher=together trainer="$trainer" model=conv \
  metrics=none trainer.max_steps=$((steps / 10)) hydra.sweep.dir="$folder/together"

((${#failed[@]} == 0)) || echo "failed: ${failed[*]}"
exit ${#failed[@]}
