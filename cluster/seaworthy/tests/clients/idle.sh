#!/bin/sh
# What a cluster costs that nobody asks anything: seconds of CPU and memory of `seaworthy up` over some minutes.
#
#   idle.sh PROGRAM NODES PODS MINUTES
#
# Needs kubectl. Everything is below a new directory in $TMPDIR, which goes in the end.
set -eu
program=$1 nodes=$2 pods=$3 minutes=$4
dir=$(mktemp -d)
port=$((20000 + $$ % 10000))
"$program" up --data-dir "$dir/data" --listen "127.0.0.1:$port" --pod-cidr "127.$((128 + $$ % 100)).0.0/16" \
    --hollow-nodes "$nodes" > "$dir/log" 2>&1 &
pid=$!
trap 'kill $pid; wait $pid 2> /dev/null || true; rm -rf "$dir"' EXIT
until grep -q "ready after" "$dir/log"; do kill -0 $pid; sleep 0.05; done
grep "ready after" "$dir/log"
export KUBECONFIG="$dir/data/kubeconfig"
if [ "$pods" -gt 0 ]; then
    kubectl create deployment idle --image=nginx --replicas="$pods" > /dev/null
    kubectl rollout status deployment/idle --timeout=120s > /dev/null
fi
# Until what the start has left to do is done.
sleep 10
ticks() { awk '{ print $14 + $15 }' "/proc/$pid/stat"; }
before=$(ticks)
sleep $((minutes * 60))
after=$(ticks)
awk -v used=$((after - before)) -v hz="$(getconf CLK_TCK)" -v seconds=$((minutes * 60)) -v nodes="$nodes" -v pods="$pods" \
    '/^VmRSS/ { rss = $2 } /^VmHWM/ { most = $2 }
     END { printf "%d nodes, %d pods: %.2f %% of a core over %d s, %.1f MB resident, %.1f MB at most\n",
           nodes, pods, 100 * used / hz / seconds, seconds, rss / 1024, most / 1024 }' "/proc/$pid/status"
