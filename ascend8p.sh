#!/usr/bin/env bash
# Train on the NPUs of a host by rank table:  bash ascend8p.sh [recipe] [--key value …]
# Relative paths start where this script lies. It reads from the environment
#   DEVICE_NUM       ranks on this host [8]
#   RANK_TABLE_FILE  [hccl_8p_01234567_127.0.0.1.json; with DEVICE_NUM=4 hccl_4p_0123_127.0.0.1.json, and so on]
#   SERVER_INDEX     with a table of several hosts: the place of this one in its server_list, from 0
#   GRACE_SECONDS    how long ranks may take to leave when they are told to, before they are killed [30]
# tools/rank_table.py writes tables, and checks the one given before anything starts. Each rank has DEVICE_ID and
# RANK_ID from the table and logs to train_rank<N>.log; the log of an earlier run goes to logs/earlier-<K>.
# Ctrl-C and SIGTERM reach every rank, a second one kills them; codes 130 and 143. The first rank to fail ends the
# others, and its code is returned.
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
        echo "error: ${setting%%:*}: got ${setting#*:}, expected a whole number from 1 to 9999; set it so" >&2
        exit 2
    fi
done
devices=$(seq -s '' 0 $((DEVICE_NUM - 1)))
export RANK_TABLE_FILE=${RANK_TABLE_FILE:-hccl_${DEVICE_NUM}p_${devices}_127.0.0.1.json}
[[ $RANK_TABLE_FILE == /* ]] || RANK_TABLE_FILE=$PWD/$RANK_TABLE_FILE

# One line "rank device all-ranks" for each rank of this host.
table=$(python tools/rank_table.py --check "$RANK_TABLE_FILE" --ranks "$DEVICE_NUM" --list="${SERVER_INDEX-}")

set_aside_logs() { # of the ranks of this host alone: others may share the folder and be running
    local rank logs=() number=1
    while read -r rank _; do
        [[ ! -e train_rank$rank.log ]] || logs+=("train_rank$rank.log")
    done <<<"$table"
    ((${#logs[@]} > 0)) || return 0
    while [[ -e logs/earlier-$number ]]; do
        number=$((number + 1))
    done
    mkdir -p logs
    mkdir "logs/earlier-$number"
    mv -- "${logs[@]}" "logs/earlier-$number"
    echo "the logs of an earlier run are in logs/earlier-$number"
}

say() { # on stderr, which may be a terminal that is gone
    echo "$*" >&2 || true
}

running=() # by rank: its process, which has a process group of the same number
failed_rank=
failed_code=0

start_ranks() {
    local rank device size
    # Job control gives each rank a process group, of which nothing shall be left, and the usual answer to SIGINT, which
    # background processes of a script ignore. It is off again afterwards, so that Ctrl-C comes to this script.
    set -m
    while read -r rank device size; do
        RANK_SIZE=$size RANK_ID=$rank DEVICE_ID=$device python -u examples/det/ssd/train.py --config "$config" "$@" \
            >"train_rank$rank.log" 2>&1 </dev/null &
        running[rank]=$!
        echo "rank $rank: device $device, process $!, log train_rank$rank.log"
    done <<<"$table"
    set +m
}

collect_ended() { # after a moment: forget ranks that have ended, and note the first that failed
    local rank code
    sleep 0.2 || true # Ctrl-C ends it too
    for rank in "${!running[@]}"; do
        kill -0 "${running[$rank]}" && continue
        code=0
        wait "${running[$rank]}" || code=$?
        kill -KILL -- "-${running[$rank]}" || true # what it may have left behind
        unset "running[$rank]"
        if ((code != 0 && failed_code == 0)); then
            failed_rank=$rank failed_code=$code
        fi
    done
} 2>/dev/null # bash's own words about processes that are gone, or died of a signal

kill_ranks() {
    local rank
    for rank in "${!running[@]}"; do
        { kill -KILL -- "-${running[$rank]}" && wait "${running[$rank]}"; } 2>/dev/null || true
        say "rank $rank did not leave and was killed"
    done
    running=()
}

end_ranks() { # ask with a signal, then kill
    local rank deadline=$((SECONDS + grace_seconds + 1)) # SECONDS may be about to step
    ((${#running[@]} > 0)) || return 0
    say "SIG$1 to ranks ${!running[*]}; in $grace_seconds s those left are killed"
    for rank in "${!running[@]}"; do
        kill "-$1" "${running[$rank]}" 2>/dev/null || true
    done
    while ((${#running[@]} > 0 && SECONDS < deadline)) && [[ -z $caught ]]; do
        collect_ended
    done
    kill_ranks
}

set_aside_logs
caught= # a signal; looked at between steps, so that nothing is interrupted half way
trap 'caught=INT' INT
trap 'caught=TERM' TERM
trap 'caught=HUP' HUP
trap kill_ranks EXIT
start_ranks "$@"
while ((${#running[@]} > 0 && failed_code == 0)) && [[ -z $caught ]]; do
    collect_ended
done
if ((failed_code != 0)); then
    say "error: rank $failed_rank ended with code $failed_code; the end of train_rank$failed_rank.log:"
    tail -n 20 "train_rank$failed_rank.log" >&2 || true
    end_ranks TERM
    exit "$failed_code"
fi
if [[ -n $caught ]]; then
    signal=$caught
    caught=
    end_ranks "$signal"
    exit $((128 + $(kill -l "$signal")))
fi
