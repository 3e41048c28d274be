#!/usr/bin/env bash
# Train on the NPUs of one host by rank table:  bash ascend8p.sh [recipe] [--key value …]
# The rank table is RANK_TABLE_FILE, or hccl_8p_01234567_127.0.0.1.json here; DEVICE_NUM=4 uses four devices.
# Each rank logs to train_rank<N>.log. The first rank to fail ends the others, and its code is returned.
set -euo pipefail
cd "$(dirname "$0")"

config=examples/det/ssd/ssd_mobilenetv2.yaml
if [[ $# -gt 0 && $1 != --* ]]; then
    config=$1
    shift
fi
export DEVICE_NUM=${DEVICE_NUM:-8}
export RANK_SIZE=$DEVICE_NUM
export RANK_TABLE_FILE=${RANK_TABLE_FILE:-$PWD/hccl_8p_01234567_127.0.0.1.json}
if [[ ! -r $RANK_TABLE_FILE ]]; then
    echo "error: RANK_TABLE_FILE: got $RANK_TABLE_FILE, expected a readable rank table; make one with HCCL's hccl_tools.py" >&2
    exit 2
fi

pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM
for ((rank = 0; rank < DEVICE_NUM; rank++)); do
    DEVICE_ID=$rank RANK_ID=$rank python -u examples/det/ssd/train.py --config "$config" "$@" >"train_rank$rank.log" 2>&1 &
    pids+=($!)
    echo "rank $rank: process $!, log train_rank$rank.log"
done
ended=0
while ((ended < DEVICE_NUM)); do
    sleep 1
    ended=0
    for rank in "${!pids[@]}"; do
        kill -0 "${pids[$rank]}" 2>/dev/null && continue
        ended=$((ended + 1))
        code=0
        wait "${pids[$rank]}" || code=$?
        if ((code != 0)); then
            echo "error: rank $rank ended with code $code; the end of train_rank$rank.log:" >&2
            tail -n 20 "train_rank$rank.log" >&2
            exit "$code"
        fi
    done
done
