#!/usr/bin/env bash
# One command on a machine with a GPU and no network; what it makes lands in $OUT (at most 8 files of 16 MiB).
#   bash benchmarks/gpu/run.sh unpack                                 the parts of the kit that have come (benchmarks/gpu/pack.py)
#   bash benchmarks/gpu/run.sh recogniser_large MINUTES [key=value]   experiments/mini/recogniser_large.yaml
#   bash benchmarks/gpu/run.sh joint MINUTES [key=value]              experiments/mini/joint.yaml
set -uo pipefail
KIT=${KIT:-runs/gpu_kit} WORK=${WORK:-/tmp/ipfvr_gpu} OUT=${OUT:-runs/gpu_out} PYTHON=${PYTHON:-python3}
mkdir -p "$WORK" "$OUT"
export PYTHONPATH="$WORK/site:$PWD${PYTHONPATH:+:$PYTHONPATH}" IPFVR_WEIGHTS="$WORK/weights" HF_HUB_OFFLINE=1
export PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1

unpack() {
    for archive in "$KIT"/[a-h]/*.tar*; do
        [ -e "$archive" ] && tar -xf "$archive" -C "$WORK" && rm -f "$archive" && echo "unpacked $archive"
    done
    echo "$(find "$WORK/root" -mindepth 1 -maxdepth 1 -type d | wc -l) people"
}

# The weights in parts that may come back, written again and again so that a cut loses little.
keep() {
    cp "$WORK/$1"/log/*/metrics.csv "$OUT/$1.csv" 2>/dev/null
    [ -d "$WORK/$1/weights" ] && tar -cf - -C "$WORK/$1/weights" . | split -b 15M -d - "$OUT/$1.tar."
}

# learn NAME MINUTES key=value ...: a training; where nothing was logged after two minutes, all threads' traces instead.
learn() {
    local name=$1 minutes=$2 began=$SECONDS
    shift 2
    $PYTHON -m ipfvr.fit --config "experiments/mini/$name.yaml" data.root="$WORK/root" train.output="$WORK/$name" \
        optimizer.steps=1000000 train.minutes="$minutes" train.wandb=disabled "$@" > "$OUT/$name.log" 2>&1 &
    local training=$! saved=$SECONDS
    while kill -0 $training 2>/dev/null; do
        sleep 1
        if [ $((SECONDS - began)) -gt "${PATIENCE:-120}" ] && ! ls "$WORK/$name"/log/*/metrics.csv > /dev/null 2>&1; then
            kill -ABRT $training
        fi
        [ $((SECONDS - saved)) -gt 60 ] && keep "$name" && saved=$SECONDS
    done
    keep "$name"
    tail -c "${TAIL:-3000}" "$OUT/$name.log"
    echo "$name: $((SECONDS - began)) s"
}

case ${1:-} in
unpack) unpack ;;
recogniser_large) learn recogniser_large "$2" data.exclude="$WORK/root/weak.yaml" "${@:3}" ;;
joint)
    learn joint "$2" data.captions="[$WORK/captions/celeba160.csv,$WORK/captions/celeba256.csv]" \
        weights.vae="$WORK/weights/vae.safetensors" weights.denoiser="$WORK/weights/start.safetensors" "${@:3}"
    ;;
*) sed -n '2,6p' "$0"; exit 2 ;;
esac
