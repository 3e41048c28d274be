#!/usr/bin/env bash
# Train on the NPUs of this host, with one process (rank) per NPU of a rank table:
#     bash ascend8p.sh [RECIPE] [--key value …]
# RECIPE is a YAML file [examples/det/ssd/ssd_mobilenetv2.yaml]. Keys on the command line override values of the recipe.
# Relative paths are relative to the folder of this script. Environment variables [default]:
#   DEVICE_NUM       number of ranks on this host [8]
#   RANK_TABLE_FILE  rank table [hccl_8p_01234567_127.0.0.1.json; hccl_4p_0123_127.0.0.1.json if DEVICE_NUM is 4]
#   SERVER_INDEX     index of this host in the table's server_list, from 0; required if the table has several servers
#   GRACE_SECONDS    seconds between a signal to the ranks and SIGKILL [30], for the steps that an NPU runs without the
#                    host (sink_size) and a checkpoint
# Write rank tables with tools/rank_table.py. This script checks the rank table before it starts any rank.
# Each rank gets DEVICE_ID and RANK_ID from the table and logs to train_rank<N>.log.
# Logs of the previous run are moved to logs/earlier-<K>. A second job with the same logs is refused while ranks run.
# Ctrl-C and SIGTERM are forwarded to every rank. The script then exits with code 130 or 143.
# A second signal kills the ranks.
# If a rank fails, the other ranks are stopped, and the script exits with the exit code of the failed rank.
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
        echo "error: ${setting%%:*}: '${setting#*:}' is not an integer from 1 to 9999. Correct ${setting%%:*}." >&2
        exit 2
    fi
done
devices=$(seq -s '' 0 $((DEVICE_NUM - 1)))
export RANK_TABLE_FILE=${RANK_TABLE_FILE:-hccl_${DEVICE_NUM}p_${devices}_127.0.0.1.json}
[[ $RANK_TABLE_FILE == /* ]] || RANK_TABLE_FILE=$PWD/$RANK_TABLE_FILE

# One line "RANK DEVICE NUMBER_OF_RANKS" for each rank of this host. NUMBER_OF_RANKS counts the ranks of all hosts.
ranks=$(python tools/rank_table.py --check "$RANK_TABLE_FILE" --ranks "$DEVICE_NUM" --list="${SERVER_INDEX-}")

# Lock the logs of this host's ranks. The ranks inherit the locks, so the logs stay locked while any rank runs.
lock_logs() {
    local rank descriptor
    command -v flock >/dev/null || return 0 # without util-linux, nothing is locked
    while read -r rank _; do
        exec {descriptor}>>".train_rank$rank.lock"
        if ! flock -n "$descriptor"; then
            echo "error: train_rank$rank.log: in use by the ranks of $(<".train_rank$rank.lock"). Wait until that job" \
                "ends, or run ascend8p.sh from another copy of the repository." >&2
            exit 2
        fi
        echo "process $$ on host ${HOSTNAME:-unknown}" >".train_rank$rank.lock"
    done <<<"$ranks"
}

# Move the logs of this host's ranks to a new folder. Other logs stay, because other hosts may share this folder.
archive_previous_logs() {
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

# Print a message to stderr. Ignore failures, because stderr may be a terminal that has been closed.
print_error() {
    echo "$*" >&2 || true
}

running=() # running[rank] is the process id of a rank, which is also the id of the rank's process group
failed_rank=
failed_code=0

# Start a process for each rank. The arguments are recipe keys for train.py.
start_ranks() {
    local rank device size
    # Job control (set -m) has two effects. Each rank gets its own process group, so that the rank's child processes can
    # be killed too. And ranks do not ignore SIGINT, unlike other background processes of a script. Job control is
    # switched off afterwards, so that Ctrl-C reaches this script.
    set -m
    while read -r rank device size; do
        RANK_SIZE=$size RANK_ID=$rank DEVICE_ID=$device python -u examples/det/ssd/train.py --config "$config" "$@" \
            >"train_rank$rank.log" 2>&1 </dev/null &
        running[rank]=$!
        echo "rank $rank: device $device, process $!, log train_rank$rank.log"
    done <<<"$ranks"
    set +m
}

# Wait 0.2 s, remove exited ranks from `running`, and store rank and exit code of the first failed rank.
reap_exited_ranks() {
    local rank code
    sleep 0.2 || true # Ctrl-C makes sleep fail
    for rank in "${!running[@]}"; do
        kill -0 "${running[$rank]}" && continue
        code=0
        wait "${running[$rank]}" || code=$?
        kill -KILL -- "-${running[$rank]}" || true # child processes of the exited rank
        unset "running[$rank]"
        if ((code != 0 && failed_code == 0)); then
            failed_rank=$rank failed_code=$code
        fi
    done
} 2>/dev/null # hides bash's messages about processes that exited or were killed

# Kill all running ranks and their child processes with SIGKILL.
kill_ranks() {
    local rank
    for rank in "${!running[@]}"; do
        { kill -KILL -- "-${running[$rank]}" && wait "${running[$rank]}"; } 2>/dev/null || true
        print_error "rank $rank did not exit and was killed with SIGKILL"
    done
    running=()
}

# Send the signal $1 to the ranks. Kill ranks that are still running after the grace period.
stop_ranks() {
    local rank deadline=$((SECONDS + grace_seconds + 1)) # SECONDS is rounded down; 1 s more avoids killing too early
    ((${#running[@]} > 0)) || return 0
    print_error "sent SIG$1 to ranks ${!running[*]}; ranks that are still running after $grace_seconds s will be killed"
    for rank in "${!running[@]}"; do
        kill "-$1" "${running[$rank]}" 2>/dev/null || true
    done
    while ((${#running[@]} > 0 && SECONDS < deadline)) && [[ -z $received_signal ]]; do
        reap_exited_ranks
    done
    kill_ranks
}

lock_logs
archive_previous_logs
received_signal= # set by the traps and checked by the loops, so that no step is interrupted halfway
trap 'received_signal=INT' INT
trap 'received_signal=TERM' TERM
trap 'received_signal=HUP' HUP
trap kill_ranks EXIT
start_ranks "$@"
while ((${#running[@]} > 0 && failed_code == 0)) && [[ -z $received_signal ]]; do
    reap_exited_ranks
done
if ((failed_code != 0)); then
    print_error "error: rank $failed_rank failed with exit code $failed_code; last lines of train_rank$failed_rank.log:"
    tail -n 20 "train_rank$failed_rank.log" >&2 || true
    stop_ranks TERM
    exit "$failed_code"
fi
if [[ -n $received_signal ]]; then
    signal=$received_signal
    received_signal= # a second signal sets received_signal again, which ends the wait in stop_ranks
    stop_ranks "$signal"
    exit $((128 + $(kill -l "$signal")))
fi
