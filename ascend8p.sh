#!/usr/bin/env bash
# Train on the NPUs of this host with a rank table:  bash ascend8p.sh [recipe] [--key value …]
# Relative paths start in the folder of this script. Environment variables [default]:
#   DEVICE_NUM       number of ranks on this host [8]
#   RANK_TABLE_FILE  [hccl_8p_01234567_127.0.0.1.json; with DEVICE_NUM=4 hccl_4p_0123_127.0.0.1.json, and so on]
#   SERVER_INDEX     index of this host in the server_list of the table, from 0; needed with several hosts
#   GRACE_SECONDS    seconds between a signal to the ranks and SIGKILL [30]
# tools/rank_table.py writes rank tables, and checks the given one before any rank starts. Each rank gets DEVICE_ID and
# RANK_ID from the table and logs to train_rank<N>.log. Logs of the previous run are moved to logs/earlier-<K>.
# Ctrl-C and SIGTERM are passed to every rank; a second signal kills the ranks. The exit codes are 130 and 143.
# If a rank fails, the others are stopped, and the script exits with the code of the failed rank.
set -euo pipefail
cd -- "$(dirname -- "$0")"

config=examples/det/ssd/ssd_mobilenetv2.yaml
if [[ $# -gt 0 && $1 != --* ]]; then
    config=$1
    shift
fi
export DEVICE_NUM=${DEVICE_NUM:-8}
grace_seconds=${GRACE_SECONDS:-30}
for setting in DEVICE_NUM:"$DEVICE_NUM" GRACE_SECONDS:"$grace_seconds"; do
    if ! [[ ${setting#*:} =~ ^[1-9][0-9]{0,3}$ ]]; then
        echo "error: ${setting%%:*}: '${setting#*:}' is not a whole number from 1 to 9999. Set it to one." >&2
        exit 2
    fi
done
devices=$(seq -s '' 0 $((DEVICE_NUM - 1)))
export RANK_TABLE_FILE=${RANK_TABLE_FILE:-hccl_${DEVICE_NUM}p_${devices}_127.0.0.1.json}
[[ $RANK_TABLE_FILE == /* ]] || RANK_TABLE_FILE=$PWD/$RANK_TABLE_FILE

# One line "rank device number-of-all-ranks" for each rank of this host.
ranks=$(python tools/rank_table.py --check "$RANK_TABLE_FILE" --ranks "$DEVICE_NUM" --list="${SERVER_INDEX-}")

archive_previous_logs() { # only those of this host's ranks: other hosts may share the folder and be running
    local rank logs=() number=1
    while read -r rank _; do
        [[ ! -e train_rank$rank.log ]] || logs+=("train_rank$rank.log")
    done <<<"$ranks"
    ((${#logs[@]} > 0)) || return 0
    while [[ -e logs/earlier-$number ]]; do
        number=$((number + 1))
    done
    mkdir -p logs
    mkdir "logs/earlier-$number"
    mv -- "${logs[@]}" "logs/earlier-$number"
    echo "moved the logs of the previous run to logs/earlier-$number"
}

print_error() { # goes on if stderr was a terminal that is closed now
    echo "$*" >&2 || true
}

running=() # running[rank] is the process id of a rank, and the id of its process group
failed_rank=
failed_code=0

start_ranks() {
    local rank device size
    # With job control, each rank has a process group of its own, so that its child processes can be killed with it, and
    # the default action for SIGINT, which background processes of a script otherwise ignore. Job control is off again
    # afterwards, so that Ctrl-C reaches this script.
    set -m
    while read -r rank device size; do
        RANK_SIZE=$size RANK_ID=$rank DEVICE_ID=$device python -u examples/det/ssd/train.py --config "$config" "$@" \
            >"train_rank$rank.log" 2>&1 </dev/null &
        running[rank]=$!
        echo "rank $rank: device $device, process $!, log train_rank$rank.log"
    done <<<"$ranks"
    set +m
}

reap_exited_ranks() { # wait a moment, remove exited ranks from running, and remember the first that failed
    local rank code
    sleep 0.2 || true # Ctrl-C interrupts it
    for rank in "${!running[@]}"; do
        kill -0 "${running[$rank]}" && continue
        code=0
        wait "${running[$rank]}" || code=$?
        kill -KILL -- "-${running[$rank]}" || true # its child processes, if any are left
        unset "running[$rank]"
        if ((code != 0 && failed_code == 0)); then
            failed_rank=$rank failed_code=$code
        fi
    done
} 2>/dev/null # hides bash's messages about processes that exited or died of a signal

kill_ranks() {
    local rank
    for rank in "${!running[@]}"; do
        { kill -KILL -- "-${running[$rank]}" && wait "${running[$rank]}"; } 2>/dev/null || true
        print_error "rank $rank did not exit and was killed"
    done
    running=()
}

stop_ranks() { # send the signal $1 to the ranks, and kill those that still run after the grace period
    local rank deadline=$((SECONDS + grace_seconds + 1)) # SECONDS is rounded down: one more, so as not to kill early
    ((${#running[@]} > 0)) || return 0
    print_error "sent SIG$1 to ranks ${!running[*]}; ranks that still run in $grace_seconds s are killed"
    for rank in "${!running[@]}"; do
        kill "-$1" "${running[$rank]}" 2>/dev/null || true
    done
    while ((${#running[@]} > 0 && SECONDS < deadline)) && [[ -z $received_signal ]]; do
        reap_exited_ranks
    done
    kill_ranks
}

archive_previous_logs
received_signal= # the traps only set it, and the loops check it, so that no step is interrupted halfway
trap 'received_signal=INT' INT
trap 'received_signal=TERM' TERM
trap 'received_signal=HUP' HUP
trap kill_ranks EXIT
start_ranks "$@"
while ((${#running[@]} > 0 && failed_code == 0)) && [[ -z $received_signal ]]; do
    reap_exited_ranks
done
if ((failed_code != 0)); then
    print_error "error: rank $failed_rank failed with exit code $failed_code; the end of train_rank$failed_rank.log:"
    tail -n 20 "train_rank$failed_rank.log" >&2 || true
    stop_ranks TERM
    exit "$failed_code"
fi
if [[ -n $received_signal ]]; then
    signal=$received_signal
    received_signal= # a second signal sets it again and ends the wait in stop_ranks
    stop_ranks "$signal"
    exit $((128 + $(kill -l "$signal")))
fi
