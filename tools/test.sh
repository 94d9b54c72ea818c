# shellcheck shell=bash disable=SC2154
# The checks of ./facet test; sourced by ./facet, whose variables and functions it uses.
#
#   build    everything in the preset, CUDA where ./facet itself would take it
#   tests    ctest; arguments that are not listed here go to it (-R NAME, -j8, …)
#   headers  every header compiles alone
#   format   clang-format would change nothing
#   cuda     the kernels compile, for sm_90a alone, where nvcc is there and the main build is not CUDA's
#   asan     the tests labelled unit or fuzz, under AddressSanitizer and UndefinedBehaviorSanitizer
#   tidy     clang-tidy over src/, less its slow checks; a file is looked at again when it or any header
#            changed
#   tsan     with --all: the tests labelled unit or …-serve, under ThreadSanitizer
#   neon     with --all: all but the program cross-compiled for 64-bit ARM; qemu runs the tests of the kernels
#            and of what they stand on
#
# --only NAME,… runs these checks alone; tests, headers and tidy look at what the last build left.
# --quick stops after the format check. --all adds the tests labelled slow, the other folders and the
# tests of the whole server (…-serve) under AddressSanitizer, every check of .clang-tidy, and the last two
# stages. The last line counts the ctest tests of all stages together.

# Checks of .clang-tidy that wait for --all, since together they take more time than all the others.
#   clang-analyzer-*, half of the time: follows paths through functions; asan and ubsan see many of the same faults
#   performance-unnecessary-value-param, a third of the rest where CLI11 is included: only speed is at stake
#   bugprone-reserved-identifier, a sixth of the rest: looks at every name of every system header
#   bugprone-stringview-nullptr, a fifteenth of the rest: crashes the first test that gets there
slow_checks='-clang-analyzer-*,-performance-unnecessary-value-param,-bugprone-reserved-identifier'
slow_checks+=',-bugprone-stringview-nullptr'

passed=0 failed=0 skipped=0
failed_tests=()
stage_names=() stage_results=() stage_seconds=()
declare -A seen_reason=()

# stage NAME COMMAND…: status 0 of the command means passed, 77 skipped, all else failed. Nothing, if it is
# not wanted.
stage() {
  local name=$1 start=$SECONDS result=passed
  shift
  [[ -z $only || ,$only, == *,${name%% *},* ]] || return 0
  printf '\n== %s (at %d s)\n' "$name" "$SECONDS"
  "$@"
  case $? in 0) ;; 77) result=skipped ;; *) result=failed ;; esac
  record "$name" $result $((SECONDS - start))
  [[ $result != failed ]]
}

check_only() {
  [[ $only =~ ^(build|tests|headers|format|cuda|asan|tidy|tsan|neon)(,(build|tests|headers|format|cuda|asan|tidy|tsan|neon))*$ ]] && return
  say "--only wants names of checks, as build,tests; found '$only'"
  exit 64
}

record() {
  stage_names+=("$1")
  stage_results+=("$2")
  stage_seconds+=("$3")
}

run_tests() {
  local quick=0 all=0 only='' main_preset=$preset unwanted='' ctest_args=()
  while (($#)); do
    case $1 in
      --quick) quick=1 ;;
      --all) all=1 ;;
      --only)
        only=${2:-}
        check_only
        shift ;;
      --help) sed -n '/^#   build/,/^$/s/^# \?//p' "${BASH_SOURCE[0]}"; exit ;;
      # ctest leaves out what matches all of several -LE, hence one that says both.
      -LE | --label-exclude)
        [[ -n ${2:-} ]] || { say "$1 wants a pattern of labels after it"; exit 64; }
        unwanted=$2
        shift ;;
      *) ctest_args+=("$1") ;;
    esac
    shift
  done
  local built=1 none_is_fine=0 untrusted=()
  [[ ${#ctest_args[@]} == 0 && -z $unwanted ]] || none_is_fine=1
  local fast=slow${unwanted:+|$unwanted}
  ((all)) || unwanted=$fast
  if [[ $only == *tsan* || $only == *neon* ]]; then all=1; fi
  trap 'exit 130' INT
  SECONDS=0

  lock_build
  local packages=test
  if ((all)); then packages=all; fi
  (need_packages $packages) || exit
  unlock_build
  exec 8>"$root/build/.test-lock"
  if ! flock -n 8; then
    say "another ./facet test is running in this tree; waiting for it"
    flock 8
  fi

  stage "build ($main_preset)" build_all || built=0
  stage "tests" if_built run_ctest "$unwanted"
  stage "headers" if_built check_headers
  stage "format" check_format
  if ((!quick)); then
    # What reads untrusted input; with --all, everything.
    untrusted=(facet_{base,json,tensor,quant,checkpoint,tokenizer,chat,model_gemma4,cache,engine,server_http,server,cli}_test
               replay_{safetensors,config,tokenizer,http,requests,renderer,output})
    if ((all)); then untrusted=(all); fi
    local checked='unit|fuzz'
    if ((all)); then checked+='|serve'; fi
    stage "cuda" if_built check_cuda
    stage "asan" if_built in_preset asan "$checked" "$unwanted" "${untrusted[@]}"
    if ((all)); then
      stage "tidy" if_built check_tidy tidy-all
      stage "tsan" if_built in_preset tsan 'unit|serve' "$fast" all
      stage "neon" if_built check_neon
    else
      stage "tidy" if_built check_tidy tidy --checks="$slow_checks"
    fi
  fi
  summarize
}

# What does not compile in the first build compiles in no other.
if_built() {
  ((built)) || { echo "left out: the build failed"; return 77; }
  "$@"
}

summarize() {
  local i status=0
  printf '\n'
  ((!failed)) || printf 'failed: %s\n' "${failed_tests[@]}"
  for i in "${!stage_names[@]}"; do
    printf '%-14s %-8s %5d s\n' "${stage_names[i]}" "${stage_results[i]}" "${stage_seconds[i]}"
    [[ ${stage_results[i]} != failed ]] || status=1
  done
  printf '%d passed, %d failed, %d skipped\n' $passed $failed $skipped
  return $status
}

build_all() { build_targets all; }

build_targets() {
  lock_build
  (build_preset ON "$@")
  local status=$?
  unlock_build
  return $status
}

# run_ctest UNWANTED [ctest argument…]: UNWANTED is a pattern of labels, or empty.
run_ctest() {
  local unwanted=$1 report=$build/ctest.xml args
  shift
  args=(--test-dir "$build" --output-on-failure -j2 --output-junit "$report" "$@")
  [[ -z $unwanted ]] || args+=(-LE "$unwanted")
  ((none_is_fine)) || args+=(--no-tests=error)
  rm -f "$report"
  "${no_aslr[@]}" ctest "${args[@]}" "${ctest_args[@]}"
  local status=$?
  if [[ -e $report ]]; then count_tests "$report"; fi
  show_skip_reasons "$build/Testing/Temporary/LastTest.log"
  return $status
}

# Each test is counted by itself: the sums at the head of the report take a test whose program is
# missing for a skipped one. Of those that failed the names are kept for the last lines, with their seconds: a
# test that hung shows its time limit there.
count_tests() {
  local verdict what
  while read -r verdict what; do
    case $verdict in
      good) passed=$((passed + 1)) ;;
      idle) skipped=$((skipped + 1)) ;;
      *) failed=$((failed + 1)) failed_tests+=("$what") ;;
    esac
  done < <(awk 'function tell() { if (verdict != "") print verdict, what }
                function field(name) {
                  if (!match($0, " " name "=\"[^\"]*\"")) return ""
                  return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 4)
                }
                /<testcase / {
                  tell()
                  verdict = "bad"
                  if (field("status") == "run") verdict = "good"
                  if (field("status") == "disabled") verdict = "idle"
                  what = sprintf("%s (%.0f s)", field("name"), field("time"))
                }
                /<skipped message="SKIP_/ { verdict = "idle" }
                END { tell() }' "$1")
}

# GoogleTest prints "file:line: Skipped", then the reason, then an empty line.
show_skip_reasons() {
  local reason
  while IFS= read -r reason; do
    [[ -z ${seen_reason[$reason]:-} ]] || continue
    seen_reason[$reason]=1
    printf 'skipped: %s\n' "$reason"
  done < <(awk '/: Skipped$/ { on = 1; text = ""; next }
                on && (/^$/ || /^\[/) { print text == "" ? "no reason given" : text; on = 0 }
                on { text = text (text == "" ? "" : " ") $0 }' "$1" 2>/dev/null | sort -u)
}

check_headers() {
  lock_build
  run_ninja all_verify_interface_header_sets -- -k 0
  local status=$?
  unlock_build
  return $status
}

# The sources that belong to the tree, new ones included, as relative paths that end in NUL.
source_files() {
  local file
  cd "$root" || return
  if ! { [[ -e .git ]] && git ls-files -z --cached --others --exclude-standard -- src tests bench; } \
      2>/dev/null; then
    find src tests bench -type f -print0 2>/dev/null
  fi | while IFS= read -r -d '' file; do
    [[ $file =~ \.(h|cpp|cu|cuh)$ && -e $file ]] && printf '%s\0' "$file"
  done
}

check_format() {
  local files bad
  command -v clang-format >/dev/null || { echo "no clang-format on PATH"; return 77; }
  mapfile -d '' files < <(source_files)
  cd "$root" || return
  mapfile -t bad < <(clang-format --dry-run -Werror "${files[@]}" 2>&1 |
                     sed -nE 's/^([^ :]+):[0-9]+:[0-9]+: error: .*/\1/p' | sort -u)
  cd "$OLDPWD" || return
  printf '%d of %d files want formatting\n' "${#bad[@]}" "${#files[@]}"
  ((${#bad[@]})) || return 0
  printf '  %s\n' "${bad[@]}"
  printf 'to mend: clang-format -i %s\n' "${bad[*]}"
  return 1
}

# in_preset PRESET LABELS UNWANTED TARGET…: builds the targets there and runs their tests with these labels.
in_preset() {
  use_preset "$1"
  # GCC 12's sanitizers cannot place their shadow where the kernel randomises more than 28 bits. The
  # build needs it too: it runs each test program once to list its tests.
  local bits=0
  read -r bits </proc/sys/vm/mmap_rnd_bits
  if ((bits > 28)) && setarch -R true; then no_aslr=(setarch -R); fi 2>/dev/null
  local -x UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
  # Tests ask for more memory than there is.
  local -x ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=1}
  local -x TSAN_OPTIONS=${TSAN_OPTIONS:-allocator_may_return_null=1}
  build_targets "${@:4}" && run_ctest "$3" -L "$2"
  local status=$?
  no_aslr=()
  use_preset "$main_preset"
  return $status
}

# One architecture in the time there is; preset cuda-all has them all.
check_cuda() {
  if [[ $main_preset == cuda* ]]; then
    echo "the main build has them"
    return 0
  fi
  find_nvcc || { echo "no nvcc on PATH or in /usr/local/cuda/bin"; return 77; }
  local -x CUDACXX=${CUDACXX:-$nvcc}
  use_preset cuda
  build_targets facet_kernels_cuda
  local status=$?
  use_preset "$main_preset"
  return $status
}

# The cross compiler builds everything, qemu is slow: it runs what depends on the processor. Death tests are left
# out: they start their program anew, and the system starts none that was built for another processor. So is a test
# of what /proc/self/stat says: qemu makes one up, without memory.
check_neon() {
  local tool ctest_args=(-E 'DeathTest|Process[.]UsageIsThatOfNow' "${ctest_args[@]}")
  if [[ $(uname -m) != x86_64 ]]; then
    echo "cross-compiling is tried on x86-64 only, this is $(uname -m)"
    return 77
  fi
  for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
    command -v $tool >/dev/null || { echo "no $tool on PATH"; return 77; }
  done
  [[ -e /usr/src/googletest/CMakeLists.txt ]] || { echo "no sources in /usr/src/googletest"; return 77; }
  in_preset neon unit "$fast" facet_{base,tensor,quant,kernels,kernels_cpu}_test ops_test \
            facet_{chat,tokenizer,cache,engine,model_gemma4,verify}
}

# check_tidy FOLDER [clang-tidy argument…]: FOLDER under build/ keeps the stamps of what was found clean.
check_tidy() {
  local file stamp newest all=() todo=() stamps=$root/build/$1
  shift
  command -v clang-tidy >/dev/null || { echo "no clang-tidy on PATH"; return 77; }
  mkdir -p "$stamps"
  while IFS= read -r file; do
    [[ $file == "$root"/src/*.cpp && $file != *_test.cpp ]] && all+=("$file")
  done < <(sed -nE 's/^ *"file": "(.*)",?$/\1/p' "$build/compile_commands.json" | sort -u)
  newest=$(find "$root" -path "$root/build" -prune -o \
                \( -name '*.h' -o -name .clang-tidy -o -name CMakeLists.txt \) -printf '%T@ %p\n' |
           sort -rn | sed '1!d; s/^[^ ]* //')
  for file in "${all[@]}"; do
    stamp=$(tidy_stamp "$file")
    [[ $stamp -nt $file && $stamp -nt $newest ]] || todo+=("$file")
  done
  printf '%d files, %d of them not looked at since the last change\n' ${#all[@]} ${#todo[@]}
  ((${#todo[@]})) || return 0
  export -f tidy_file tidy_stamp
  # shellcheck disable=SC2016
  printf '%s\0' "${todo[@]}" |
    root=$root build=$build stamps=$stamps xargs -0 -I{} -P"$(nproc)" bash -c 'tidy_file "$@"' _ {} "$@" |
    {
      local verdict looked_at=0 clean=0
      while read -r verdict file; do
        printf '[%d/%d] %s %s\n' $((++looked_at)) ${#todo[@]} "$verdict" "${file#"$root"/}"
        if [[ $verdict == clean ]]; then
          clean=$((clean + 1))
        else
          grep -v 'warnings generated' "$(tidy_stamp "$file").log"
        fi
      done
      ((clean == ${#todo[@]}))
    }
}

tidy_stamp() {
  local name=${1#"$root"/src/}
  echo "$stamps/${name//\//_}"
}

# tidy_file FILE [clang-tidy argument…]. As with .built, the stamp is as old as the start of the look.
tidy_file() {
  local stamp verdict=clean
  stamp=$(tidy_stamp "$1")
  : >"$stamp.new"
  if clang-tidy -p "$build" --quiet --warnings-as-errors='*' "${@:2}" "$1" &>"$stamp.log"; then
    mv -f "$stamp.new" "$stamp"
  else
    verdict=findings
    rm -f "$stamp"
  fi
  echo "$verdict $1"
}
