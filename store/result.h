// The one error model of pcache: Result<T>, an Error with a kind, an errno and a context.
//
// Every function that can fail returns a Result; exceptions of libraries are caught where they are
// called. A context is added on the way up, so that an error reads from the outside in:
// "cannot open the store: /x/y: No space left on device".
#pragma once

#include <cerrno>
#include <cstring>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace pcache {

enum class ErrorKind { kSystem, kNotFound, kCorrupt, kNoSpace, kUnsupported, kInvalid, kBusy };

struct [[nodiscard]] Error {
  ErrorKind kind = ErrorKind::kSystem;
  int sys_errno = 0;  // 0 where no system call failed
  std::string context;

  std::string to_string() const {
    if (sys_errno == 0) return context;
    return context + ": " + std::strerror(sys_errno);
  }
  Error within(const std::string& outer) && {
    context = outer + ": " + context;
    return std::move(*this);
  }
};

template <class T>
using Result = tl::expected<T, Error>;

// An Error of the current errno. Call it before anything else can change errno.
inline tl::unexpected<Error> system_error(std::string context, int err = errno) {
  const ErrorKind kind = err == ENOSPC || err == EDQUOT ? ErrorKind::kNoSpace
                         : err == ENOENT                ? ErrorKind::kNotFound
                                                        : ErrorKind::kSystem;
  return tl::make_unexpected(Error{kind, err, std::move(context)});
}

inline tl::unexpected<Error> make_error(ErrorKind kind, std::string context) {
  return tl::make_unexpected(Error{kind, 0, std::move(context)});
}

#define PCACHE_CONCAT_INNER(a, b) a##b
#define PCACHE_CONCAT(a, b) PCACHE_CONCAT_INNER(a, b)
// PCACHE_TRY(expr): leaves the function with the error of a Result<void>-like expression.
#define PCACHE_TRY(expr)                                                \
  do {                                                                  \
    if (auto pcache_try_result = (expr); !pcache_try_result)            \
      return tl::make_unexpected(std::move(pcache_try_result).error()); \
  } while (false)
// PCACHE_ASSIGN(auto x, expr): x is the value of expr, or the function is left with its error.
#define PCACHE_ASSIGN(decl, expr) \
  PCACHE_ASSIGN_IMPL(PCACHE_CONCAT(pcache_assign_, __LINE__), decl, expr)
#define PCACHE_ASSIGN_IMPL(tmp, decl, expr)                     \
  auto tmp = (expr);                                            \
  if (!tmp) return tl::make_unexpected(std::move(tmp).error()); \
  decl = std::move(*tmp)

}  // namespace pcache
