// Preloaded into a program under test: makes the call that FaultState names fail. The allocator
// goes to glibc's own names, system calls go to the kernel, so nothing here looks up a symbol,
// allocates or fails by itself.

#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <fcntl.h>
#include <malloc.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/fault/fault_state.h"

using facet::test::FaultKind;
using facet::test::FaultState;

namespace {

FaultState* state = nullptr;

__attribute__((constructor)) void map_state() {
  const char* path = std::getenv(facet::test::kFaultVariable);
  if (path == nullptr) return;
  const auto fd = static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0));
  if (fd < 0) _exit(126);
  const auto at = reinterpret_cast<void*>(
      syscall(SYS_mmap, nullptr, sizeof(FaultState), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  syscall(SYS_close, fd);
  state = static_cast<FaultState*>(at);
}

bool fails(FaultKind kind) { return state != nullptr && state->fails(kind); }

bool out_of_memory() {
  if (!fails(FaultKind::kMalloc)) return false;
  errno = ENOMEM;
  return true;
}

template <typename... Arguments>
long call(FaultKind kind, long number, Arguments... arguments) {
  if (fails(kind)) {
    errno = state->error.load(std::memory_order_relaxed);
    return -1;
  }
  return syscall(number, arguments...);
}

}  // namespace

extern "C" {

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) noexcept { return out_of_memory() ? nullptr : __libc_malloc(size); }
void* calloc(size_t count, size_t size) noexcept {
  return out_of_memory() ? nullptr : __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) noexcept {
  return out_of_memory() ? nullptr : __libc_realloc(old, size);
}
void* memalign(size_t alignment, size_t size) noexcept {
  return out_of_memory() ? nullptr : __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) noexcept { return memalign(alignment, size); }
int posix_memalign(void** out, size_t alignment, size_t size) noexcept {
  *out = memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}

ssize_t read(int fd, void* buffer, size_t size) {
  return call(FaultKind::kRead, SYS_read, fd, buffer, size);
}
ssize_t write(int fd, const void* buffer, size_t size) {
  return call(FaultKind::kWrite, SYS_write, fd, buffer, size);
}
ssize_t send(int fd, const void* buffer, size_t size, int flags) {
  return call(FaultKind::kSend, SYS_sendto, fd, buffer, size, flags, nullptr, 0);
}
ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  return call(FaultKind::kSend, SYS_sendmsg, fd, message, flags);
}
ssize_t recv(int fd, void* buffer, size_t size, int flags) {
  return call(FaultKind::kRecv, SYS_recvfrom, fd, buffer, size, flags, nullptr, nullptr);
}
ssize_t recvmsg(int fd, msghdr* message, int flags) {
  return call(FaultKind::kRecv, SYS_recvmsg, fd, message, flags);
}
int accept(int fd, sockaddr* address, socklen_t* size) {
  return static_cast<int>(call(FaultKind::kAccept, SYS_accept4, fd, address, size, 0));
}
int accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  return static_cast<int>(call(FaultKind::kAccept, SYS_accept4, fd, address, size, flags));
}
int epoll_ctl(int epoll, int operation, int fd, epoll_event* event) noexcept {
  return static_cast<int>(call(FaultKind::kEpollCtl, SYS_epoll_ctl, epoll, operation, fd, event));
}
int epoll_wait(int epoll, epoll_event* events, int most, int timeout) {
  return static_cast<int>(
      call(FaultKind::kEpollWait, SYS_epoll_pwait, epoll, events, most, timeout, nullptr, 8));
}
void* mmap(void* at, size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  return reinterpret_cast<void*>(
      call(FaultKind::kMmap, SYS_mmap, at, size, protection, flags, fd, offset));
}
int open(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
  va_end(list);
  return static_cast<int>(call(FaultKind::kOpen, SYS_openat, AT_FDCWD, path, flags, mode));
}
int fsync(int fd) { return static_cast<int>(call(FaultKind::kFsync, SYS_fsync, fd)); }
int rename(const char* from, const char* to) noexcept {
  return static_cast<int>(call(FaultKind::kRename, SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

}  // extern "C"
