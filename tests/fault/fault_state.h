#pragma once

#include <atomic>
#include <cstdint>

namespace facet::test {

/// What may be made to fail.
enum class FaultKind : int32_t {
  kNone,
  kMalloc,  // malloc, calloc, realloc and the aligned ones, hence operator new
  kRead,
  kWrite,
  kSend,  // send, sendmsg
  kRecv,  // recv, recvmsg
  kAccept,
  kEpollCtl,
  kEpollWait,
  kMmap,
  kOpen,
  kFsync,
  kRename,
  kDecodeOp,   // an op of a step in which every sequence reads one token
  kPrefillOp,  // an op of a step with more rows than that: some sequence reads its prompt
};

/// Lies in a file that the test and the program both map; all zeros arms nothing. The test writes
/// `kind` last when it arms, first when it disarms.
struct FaultState {
  std::atomic<FaultKind> kind;
  std::atomic<int32_t> error;  ///< errno of a system call that fails
  std::atomic<int64_t> left;   ///< calls of the kind until one fails, that one included
  std::atomic<int64_t> fired;  ///< calls that failed

  /// Counts a call of `what`; must it fail?
  bool fails(FaultKind what) {
    if (kind.load(std::memory_order_acquire) != what) return false;
    if (left.fetch_sub(1, std::memory_order_relaxed) != 1) return false;
    fired.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
};
static_assert(std::atomic<int64_t>::is_always_lock_free, "two processes share it");

inline constexpr const char* kFaultVariable = "FACET_TEST_FAULTS";  ///< names the file

}  // namespace facet::test
