#!/usr/bin/env bash
# shellcheck disable=SC2317  # the parts are called by name
# Checks and times everything on a machine with a GPU, in one go.
#
#   tools/check_gpu.sh [--only NAME,…] [--without NAME,…] [--limit SECONDS] [--out DIR] [--bin DIR] [--model DIR]
#                      [--configs DIR] [--goldens DIR] [--repeats N]
#
# From a bundle (tools/bundle.sh) or a checkout with a build (--bin build/cuda/bin). In this order:
#
#   machine       GPU, driver, cores, memory
#   ops           every op against the reference on odd shapes
#   products      products and experts against float64, bit-equal for any number of rows
#   goldens       tiny checkpoints against transformers' recorded outputs; then those in the folder given by --goldens
#   fable         the engine's bits whatever runs beside a request, on Fable
#   repeat        a prompt and a decode step N times (1000), bit-equal, graphs on and off, on Fable
#   serve         the server's test suite on Fable, computed on the GPU
#   memcheck      compute-sanitizer over repeat with 3 repeats, and over ops
#   racecheck     compute-sanitizer over a prompt of five tokens and three more, on Fable
#   fault         an illegal access, a GPU that is full: what clients and users are told
#   verify-fable  facet verify on Fable
#   synth         a model of the true shape (--configs, or --model names one that is there)
#   start         process start to the first token of that model, three times
#   repeat-large  repeat on it
#   one-token     on it, all layers of a token in one launch: the bits of separate launches
#   bench-model   steps and their kernels
#   bench-serve   1,000/250 at one stream, 512/128 at 100, through HTTP
#   transformers  six layers at true dimensions against transformers (tools/compare_transformers.py)
#   verify-large  facet verify on it: the reference takes minutes
#
# Each part writes DIR/NAME.log (check_gpu.logs unless given); the last lines are a table. --limit is for all of it
# (3600 s unless given): what does not begin in time is left out, what runs over is ended.
# Exit code: 0 all passed or skipped, 1 something failed, 64 wrong use.

set -uo pipefail

root=$(CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
parts=(machine ops products goldens fable repeat serve memcheck racecheck fault verify-fable synth start repeat-large
       one-token bench-model bench-serve transformers verify-large)
only='' without='' limit=3600 out=check_gpu.logs bin=$root/bin model='' configs='' goldens='' repeats=1000
made_model=''

say() { printf 'check_gpu: %s\n' "$*" >&2; }

# Each of a list must be a part.
check_names() {
  local name
  for name in ${1//,/ }; do
    [[ " ${parts[*]} " == *" $name "* ]] || { say "no part is called '$name'; there are: ${parts[*]}"; exit 64; }
  done
}

while (($#)); do
  case $1 in
    --help) sed -n '3,/^$/s/^# \?//p' "${BASH_SOURCE[0]}"; exit ;;
    --only | --without | --limit | --out | --bin | --model | --configs | --goldens | --repeats)
      (($# > 1)) || { say "$1 wants a value after it"; exit 64; }
      printf -v "${1#--}" %s "$2"
      shift ;;
    *) say "unknown option $1; --help lists them"; exit 64 ;;
  esac
  shift
done
check_names "$only"
check_names "$without"
mkdir -p "$out" || exit 64
out=$(CDPATH='' cd -P -- "$out" && pwd)
[[ -x $bin/facet ]] || { say "no program $bin/facet; --bin names the folder with it"; exit 64; }
bin=$(CDPATH='' cd -P -- "$bin" && pwd)
export FACET_SOURCE=${FACET_SOURCE:-$root} FACET_PROGRAM=$bin/facet
export FACET_MODELS=${FACET_MODELS:-$FACET_SOURCE/models} FACET_TEST_BACKEND=cuda
[[ ! -d $root/shared ]] || export FACET_SHARED=${FACET_SHARED:-$root/shared}
[[ -n $configs || ! -d $root/configs ]] || configs=$root/configs

names=() results=() times=()

# left_out WHY: the part is skipped; its last line says why.
left_out() { printf 'left out: %s\n' "$*"; return 77; }

# need PROGRAM…: those of the bin folder that the part runs.
need() {
  local program
  for program; do [[ -x $bin/$program ]] || { left_out "$program is not in $bin"; return; }; done
}

# part NAME SECONDS: runs part_NAME (with _ for -) for at most so long.
part() {
  local name=$1 most=$2 begin=$SECONDS status left result
  [[ -z $only || ,$only, == *,$name,* ]] || return 0
  [[ ,$without, != *,$name,* ]] || return 0
  left=$((limit - SECONDS))
  ((left < most)) && most=$left
  names+=("$name")
  if ((most <= 0)); then
    results+=("left out: no time") times+=(0)
    return 0
  fi
  printf '== %s (at %d s, at most %d s)\n' "$name" "$SECONDS" "$most"
  # A process group of its own, so that all it started ends with it.
  set -m
  ("part_${name//-/_}") >"$out/$name.log" 2>&1 &
  local child=$!
  set +m
  (sleep "$most" && kill -TERM -- "-$child" && sleep 5 && kill -KILL -- "-$child") 2>/dev/null &
  local guard=$!
  wait "$child"
  status=$?
  kill "$guard" 2>/dev/null && wait "$guard" 2>/dev/null
  kill -KILL -- "-$child" 2>/dev/null
  case $status in
    0) result=passed ;;
    77) result=$(tail -n 1 "$out/$name.log") ;;
    143 | 137) result="FAILED: over its time" ;;
    *) result="FAILED: code $status" ;;
  esac
  [[ $status == 0 || $status == 77 ]] || tail -n 15 "$out/$name.log" | sed 's/^/   /'
  results+=("$result") times+=($((SECONDS - begin)))
}

# The tests of a program that a filter names, but "all were skipped" is no pass.
gtest() {
  local program=$1 log status
  need "$program" || return
  log=$(mktemp)
  "$bin/$program" --gtest_brief=1 "${@:2}" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  if ((status == 0)) && ! grep -qE '\[  PASSED  \] [1-9]' "$log"; then status=77; fi
  rm -f "$log"
  ((status != 77)) || left_out "all tests were skipped"
  return "$status"
}

sanitizer() {
  local tool=$1
  shift
  local program
  program=$(command -v compute-sanitizer) || program=/usr/local/cuda/bin/compute-sanitizer
  [[ -x $program ]] || { left_out "no compute-sanitizer"; return; }
  "$program" --tool "$tool" --error-exitcode 9 "$@"
}

part_machine() {
  cat "$root/BUNDLE" 2>/dev/null
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem --format=csv
  nproc
  grep -E 'MemTotal|MemAvailable' /proc/meminfo
  df -h /dev/shm
  ldd --version | head -n 1
  "$bin/facet" --version
  "$bin/facet" info fable --backend cuda
}
part_ops() { gtest ops_test '--gtest_filter=*cuda*'; }
part_products() { need cuda_products && "$bin/cuda_products" check; }
part_goldens() {
  gtest golden_test '--gtest_filter=*cuda*' || return
  [[ -z $goldens ]] || FACET_GOLDENS=$goldens gtest golden_test '--gtest_filter=*cuda*'
}
part_fable() { gtest engine_fable_test '--gtest_filter=*cuda*:*Cuda*'; }
part_repeat() { FACET_TEST_REPEATS=$repeats gtest cuda_repeat_test; }
part_serve() { gtest serve_test; }
part_memcheck() {
  need cuda_repeat_test ops_test || return
  FACET_TEST_REPEATS=3 sanitizer memcheck "$bin/cuda_repeat_test" --gtest_brief=1 &&
    sanitizer memcheck "$bin/ops_test" --gtest_brief=1 '--gtest_filter=*cuda*'
}
part_racecheck() {
  sanitizer racecheck "$bin/facet" generate fable --ids 2,300,301,302,303 --max-tokens 3 --backend cuda --kv-dtype bf16
}
part_fault() { gtest cuda_fault_test; }
part_verify_fable() { "$bin/facet" verify fable --backend cuda --kv-dtype bf16 --tokens 16; }

# What a model of the true shape is made from: config, quant, tokenizer.
find_shape() {
  config=("$configs"/*A4B-NVFP4_config.json)
  quant=${config[0]%_config.json}_hf_quant_config.json
  tokenizer=("$configs"/*tokenizer.json*)
  [[ -e ${config[0]} && -e $quant ]] || left_out "no --configs with *A4B-NVFP4_config.json and its hf_quant_config.json"
}

part_synth() {
  [[ -z $model ]] || { left_out "--model $model is used"; return; }
  find_shape || return
  rm -rf "$made_model"
  local words=()
  [[ ! -e ${tokenizer[0]} ]] || words=(--tokenizer "${tokenizer[0]}")
  "$bin/facet" synth "${config[0]}" "$quant" --out "$made_model" "${words[@]}"
}

large() {
  large=${model:-$made_model}
  [[ -e $large/config.json ]] || left_out "no model of the true shape (synth, or --model)"
}

# start_server ARGUMENT…: facet serve on a Unix socket; waits until it is ready.
start_server() {
  socket=$(mktemp -u)
  "$bin/facet" serve "$large" --backend cuda --uds "$socket" "$@" >"$out/server.log" 2>&1 &
  server=$!
  local i
  for ((i = 0; i < 6000; ++i)); do
    grep -q 'ready in' "$out/server.log" && return
    kill -0 "$server" 2>/dev/null || { cat "$out/server.log"; return 1; }
    sleep 0.01
  done
  say "the server is not ready after a minute"
  return 1
}

stop_server() { kill -TERM "$server" && wait "$server"; }

part_start() {
  large || return
  local i begin
  for i in 1 2 3; do
    begin=$EPOCHREALTIME
    start_server --kv-dtype bf16 || return
    curl -sS --unix-socket "$socket" http://localhost/generate -H 'Content-Type: application/json' \
      -d '{"input_ids":[2,100,200,300],"sampling_params":{"max_new_tokens":1}}' || return
    printf '\nprocess start to first token: %s s\n' "$(awk "BEGIN { print $EPOCHREALTIME - $begin }")"
    stop_server
    cat "$out/server.log"
  done
}
part_repeat_large() { large && FACET_TEST_MODEL=$large FACET_TEST_REPEATS=$repeats gtest cuda_repeat_test; }
part_few_tokens() { large && FACET_TEST_MODEL=$large gtest cuda_few_tokens_test; }
part_bench_model() {
  large || return
  local bench=("$bin/facet" bench model "$large" --backend cuda --kv-dtype bf16)
  "${bench[@]}" --decode 1,2,4,8,16,32,64,100 --context 1024,16384,32768 --prefill 0 --seconds 0.3 \
    --json "$out/decode.json" || return
  "${bench[@]}" --decode 0 --prefill 128,256,512,1000,1024,2048,4096,8192 --prefill-chunk 2048 --seconds 0.3 \
    --json "$out/prefill.json" || return
  "${bench[@]}" --decode 1,8,100 --context 1024 --prefill 1000 --prefill-chunk 1024 --seconds 0.3 --kernels \
    --json "$out/kernels.json" || return
  "${bench[@]}" --decode 1 --context 16384 --prefill 0 --seconds 0.3 --kernels
}
part_bench_serve() {
  large || return
  start_server --kv-dtype bf16 --max-running 128 --prefill-chunk 2048 || return
  local bench=("$bin/facet" bench serve --uds "$socket" --tokenizer "$large") status
  "${bench[@]}" --input-len 1000 --output-len 250 --range-ratio 1 --concurrency 1 --num-prompts 8 &&
    "${bench[@]}" --input-len 512 --output-len 128 --range-ratio 1 --concurrency 100 --num-prompts 400 --seed 2
  status=$?
  stop_server
  return "$status"
}
part_transformers() {
  find_shape && python3 "$root/tools/compare_transformers.py" "${config[0]}" "$quant" --facet "$bin/facet"
}
part_verify_large() { large && "$bin/facet" verify "$large" --backend cuda --kv-dtype bf16 --tokens 8; }

summarize() {
  local i status=0
  printf '\n'
  for i in "${!names[@]}"; do
    printf '%-14s %5d s  %s\n' "${names[i]}" "${times[i]}" "${results[i]}"
    [[ ${results[i]} != FAILED* ]] || status=1
  done
  return "$status"
}

[[ -n $model ]] || made_model=${FACET_SHAPE_DIR:-/dev/shm}/facet-true-shape
trap 'exit 130' INT
SECONDS=0
part machine 60
part ops 300
part products 300
part goldens 300
part fable 300
part repeat 120
part serve 600
part memcheck 900
part racecheck 900
part fault 120
part verify-fable 120
part synth 300
part start 120
part repeat-large 300
part one-token 120
part bench-model 600
part bench-serve 300
part transformers 300
part verify-large 1200
summarize | tee "$out/summary.txt"
exit "${PIPESTATUS[0]}"
