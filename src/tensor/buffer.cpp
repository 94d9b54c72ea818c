#include "tensor/buffer.h"

#include <cstring>
#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/text.h"

namespace facet {
namespace {

void* host_allocate(int64_t bytes) {
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    throw Error(ErrorCode::kOutOfMemory,
                fmt::format("the system has no {} of memory left", human_bytes(bytes)));
  }
  // Large pages where there are any: long reads need a translation for each page. A refusal costs
  // nothing.
  constexpr int64_t kWorthLargePages = 8 << 20;
  if (bytes >= kWorthLargePages) madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return data;
}

void host_release(void* data, int64_t bytes) noexcept { munmap(data, static_cast<size_t>(bytes)); }

void host_copy(void* to, const void* from, int64_t bytes) {
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

constexpr Buffer::Allocator kHostAllocator = {host_allocate, host_release, host_copy,
                                              Device::kHost};

int64_t padded(int64_t bytes) {
  return (bytes + Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment;
}

}  // namespace

const Buffer::Allocator& host_allocator() { return kHostAllocator; }

Buffer::Buffer(int64_t bytes) : Buffer(bytes, kHostAllocator) {}

Buffer::Buffer(int64_t bytes, const Allocator& allocator) : bytes_(bytes), allocator_(allocator) {
  CHECK(bytes >= 0, "bytes {}", bytes);
  if (bytes > 0) data_ = static_cast<std::byte*>(allocator_.allocate(bytes));
}

Buffer::~Buffer() {
  if (data_ != nullptr) allocator_.release(data_, bytes_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      allocator_(other.allocator_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    if (data_ != nullptr) allocator_.release(data_, bytes_);
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    allocator_ = other.allocator_;
  }
  return *this;
}

void populate(const Buffer& buffer, int64_t begin, int64_t bytes) {
  CHECK(buffer.device() == Device::kHost, "memory of another device");
  CHECK(begin >= 0 && bytes >= 0 && begin + bytes <= buffer.bytes(), "{} bytes from {} of {}",
        bytes, begin, buffer.bytes());
#ifdef MADV_POPULATE_WRITE  // Linux 5.14
  static const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t first = begin / page * page;  // the buffer begins with a page
  if (bytes > 0)
    madvise(buffer.data() + first, static_cast<size_t>(begin + bytes - first), MADV_POPULATE_WRITE);
#endif
}

int64_t Arena::bytes_for(DType dtype, const Shape& shape) {
  return padded((shape.elements() * bits_of(dtype) + 7) / 8);
}

TensorView Arena::take(DType dtype, const Shape& shape) {
  const int64_t bytes = bytes_for(dtype, shape);
  CHECK(used_ + bytes <= buffer_.bytes(), "arena of {} has {} used, wants {}", buffer_.bytes(),
        used_, bytes);
  TensorView view(buffer_.data() + used_, dtype, shape, buffer_.device());
  used_ += bytes;
  return view;
}

}  // namespace facet
