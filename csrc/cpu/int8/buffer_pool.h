// Memory for the values between steps.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace repq_fx {

// Memory aligned to cache lines, of any contents.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes)
      : data_(static_cast<uint8_t*>(std::aligned_alloc(line, (bytes / line + 1) * line))),
        bytes_(bytes) {
    if (data_ == nullptr) throw std::bad_alloc();
  }

  uint8_t* data() const { return data_.get(); }
  int64_t bytes() const { return bytes_; }

 private:
  static constexpr int64_t line = 64;
  struct Free {
    void operator()(uint8_t* data) const { std::free(data); }
  };
  std::unique_ptr<uint8_t, Free> data_;
  int64_t bytes_ = 0;
};

// Lends a buffer to each run of a program, so that several threads may run it at once.
class BufferPool {
 public:
  class Loan {
   public:
    Loan(BufferPool& pool, int64_t bytes) : pool_(pool), buffer_(pool.take(bytes)) {}
    ~Loan() { pool_.give_back(std::move(buffer_)); }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;

    uint8_t* data() const { return buffer_.data(); }

   private:
    BufferPool& pool_;
    Buffer buffer_;
  };

 private:
  Buffer take(int64_t bytes) {
    Buffer buffer;
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        buffer = std::move(free_.back());
        free_.pop_back();
      }
    }
    // Smaller too: what one large batch needed is not kept for ever.
    return buffer.bytes() == bytes ? std::move(buffer) : Buffer(bytes);
  }

  void give_back(Buffer buffer) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(buffer));
  }

  std::mutex mutex_;
  std::vector<Buffer> free_;
};

}  // namespace repq_fx
