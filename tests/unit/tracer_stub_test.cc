// Processes that are skipped: their program never runs, its recorded output and status do.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tracer/stub.h"

namespace pcache::tracer {
namespace {

struct Pipe {
  explicit Pipe(int flags = O_CLOEXEC) {
    int fds[2];
    if (pipe2(fds, flags) == 0) {
      read.reset(fds[0]);
      write.reset(fds[1]);
    }
  }
  UniqueFd read, write;
};

// A child that is traced by the calling thread, held at its exec event.
class HeldProcess {
 public:
  struct Setup {
    const char* program = SUBJECT;
    int out = -1, err = -1;  // -1: /dev/null
    std::vector<std::string> arguments;
    std::function<void()> before_exec = [] {};
  };
  explicit HeldProcess(const Setup& setup) {
    Pipe go;
    std::vector<char*> argv = {const_cast<char*>(setup.program)};
    for (const std::string& argument : setup.arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      const int null = open("/dev/null", O_RDWR);
      dup2(setup.out < 0 ? null : setup.out, 1);
      dup2(setup.err < 0 ? null : setup.err, 2);
      char byte;
      if (read(go.read.get(), &byte, 1) != 1) _exit(96);
      setup.before_exec();
      execv(setup.program, argv.data());
      _exit(97);
    }
    EXPECT_EQ(ptrace(PTRACE_SEIZE, pid_, nullptr, PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL), 0);
    EXPECT_EQ(write(go.write.get(), "x", 1), 1);
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, __WALL), pid_);
    held_ = WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_EXEC;
    EXPECT_TRUE(held_) << status;
  }
  ~HeldProcess() {
    if (ended_) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, __WALL);
  }

  Tid tid() const { return Tid{pid_}; }

  // Lets it run, feeding the stub at each int3; gives the wait status.
  int run(StubRun* stub) {
    int status = 0;
    ptrace(PTRACE_CONT, pid_, nullptr, nullptr);
    while (waitpid(pid_, &status, __WALL) == pid_ && WIFSTOPPED(status)) {
      int signal = status >> 16 == 0 ? WSTOPSIG(status) : 0;
      if (signal == SIGTRAP && stub != nullptr) {
        ++feeds_;
        signal = stub->feed(tid()) ? 0 : SIGKILL;
      }
      ptrace(PTRACE_CONT, pid_, nullptr, static_cast<uintptr_t>(signal));
    }
    ended_ = true;
    return status;
  }
  int skip(StubRun& stub) {
    EXPECT_TRUE(stub.install(tid()));
    return run(&stub);
  }
  int feeds() const { return feeds_; }

 private:
  pid_t pid_ = 0;
  bool held_ = false, ended_ = false;
  int feeds_ = 0;
};

// Reads a pipe to its end on a thread of its own.
class Reader {
 public:
  explicit Reader(UniqueFd from, std::chrono::microseconds pause = {}, size_t at_once = 65536)
      : from_(std::move(from)), thread_([this, pause, at_once] {
          std::string buffer(at_once, '\0');
          ssize_t n;
          while ((n = read(from_.get(), buffer.data(), buffer.size())) > 0) {
            bytes_.append(buffer, 0, static_cast<size_t>(n));
            if (pause.count() > 0) std::this_thread::sleep_for(pause);
          }
        }) {}
  ~Reader() {
    if (thread_.joinable()) thread_.join();
  }
  const std::string& all() {
    thread_.join();
    return bytes_;
  }

 private:
  UniqueFd from_;
  std::string bytes_;
  std::thread thread_;
};

std::string pattern(size_t size) {
  std::string bytes(size, '\0');
  uint32_t state = 1;
  for (char& byte : bytes) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

UniqueFd file_of(const std::string& bytes) {
  UniqueFd file(memfd_create("streams", MFD_CLOEXEC));
  EXPECT_EQ(write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  return file;
}

StubRun only_exit(int status) { return StubRun({}, UniqueFd(), "", status); }

StubRun from_file(const std::string& bytes, std::vector<store::StreamSegment> segments,
                  int status) {
  return StubRun(std::move(segments), file_of(bytes), "", status);
}

class Stub : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Programs, Stub, ::testing::Values(SUBJECT, STATIC_SUBJECT, "/bin/true"),
                         [](const auto& param) -> std::string {
                           if (param.param == std::string(SUBJECT)) return "Dynamic";
                           return param.param == std::string(STATIC_SUBJECT) ? "Static" : "True";
                         });

TEST_P(Stub, ExitsWithTheRecordedStatus) {
  for (const int expected : {0, 1, 77, 255}) {
    HeldProcess process({.program = GetParam()});
    StubRun stub = only_exit(expected);
    const int status = process.skip(stub);
    ASSERT_TRUE(WIFEXITED(status)) << status;
    EXPECT_EQ(WEXITSTATUS(status), expected);
    EXPECT_EQ(process.feeds(), 0);
  }
}

TEST_P(Stub, TheProgramWritesOnlyWhatWasRecorded) {
  Pipe out;
  HeldProcess process({.program = GetParam(), .out = out.write.get()});
  out.write.reset();
  Reader reader(std::move(out.read));
  StubRun stub({{1, 6}}, UniqueFd(), "hello\n", 3);
  EXPECT_EQ(WEXITSTATUS(process.skip(stub)), 3);
  EXPECT_EQ(reader.all(), "hello\n");
}

TEST_P(Stub, AMegabyteThroughASlowReader) {
  const std::string bytes = pattern(1 << 20);
  Pipe out;
  HeldProcess process({.program = GetParam(), .out = out.write.get()});
  out.write.reset();
  Reader reader(std::move(out.read), std::chrono::microseconds(500), 10000);
  StubRun stub = from_file(bytes, {{1, bytes.size()}}, 5);
  const int status = process.skip(stub);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 5) << status;
  EXPECT_TRUE(reader.all() == bytes);
}

TEST_P(Stub, UninstallLeavesTheProgramAsItWas) {
  Pipe out;
  HeldProcess process({.program = GetParam(), .out = out.write.get()});
  out.write.reset();
  Reader reader(std::move(out.read));
  StubRun stub({{1, 6}}, UniqueFd(), "hello\n", 3);
  ASSERT_TRUE(stub.install(process.tid()));
  stub.uninstall(process.tid());
  const int status = process.run(nullptr);
  const bool is_true = GetParam() == std::string("/bin/true");
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == (is_true ? 0 : 99)) << status;
  EXPECT_EQ(reader.all(), is_true ? "" : "the program itself ran\n");
}

TEST(StubStreams, KeepTheirOrderInOnePipe) {
  Pipe both;
  HeldProcess process({.out = both.write.get(), .err = both.write.get()});
  both.write.reset();
  Reader reader(std::move(both.read));
  StubRun stub({{1, 4}, {2, 4}, {1, 4}, {2, 4}}, UniqueFd(), "out1err1out2err2", 0);
  EXPECT_EQ(process.skip(stub), 0);
  EXPECT_EQ(process.feeds(), 3);
  EXPECT_EQ(reader.all(), "out1err1out2err2");
}

TEST(StubStreams, GoEachToItsOwnDescriptor) {
  Pipe out, err;
  HeldProcess process({.out = out.write.get(), .err = err.write.get()});
  out.write.reset();
  err.write.reset();
  Reader out_reader(std::move(out.read)), err_reader(std::move(err.read));
  StubRun stub = from_file("out1err1out2err2", {{1, 4}, {2, 4}, {1, 4}, {2, 4}}, 0);
  EXPECT_EQ(process.skip(stub), 0);
  EXPECT_EQ(out_reader.all(), "out1out2");
  EXPECT_EQ(err_reader.all(), "err1err2");
}

TEST(StubStreams, OfAnySizeAroundTheWindow) {
  for (const size_t size :
       {size_t{1}, size_t{65535}, size_t{65536}, size_t{65537}, size_t{131072}}) {
    const std::string bytes = pattern(size) + "end";
    Pipe out;
    HeldProcess process({.out = out.write.get()});
    out.write.reset();
    Reader reader(std::move(out.read));
    StubRun stub = from_file(bytes, {{1, size}, {2, 0}, {1, 3}, {2, 0}}, 0);
    EXPECT_EQ(process.skip(stub), 0) << size;
    EXPECT_TRUE(reader.all() == bytes) << size;
  }
}

TEST(StubStreams, AClosedPipeKillsAsAlways) {
  Pipe out;
  const std::string bytes = pattern(1 << 20);
  HeldProcess process({.out = out.write.get()});
  out.write.reset();
  out.read.reset();
  StubRun stub = from_file(bytes, {{1, bytes.size()}}, 0);
  const int status = process.skip(stub);
  // 141 to a shell.
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE) << status;
}

TEST(StubStreams, AReaderThatLeavesHalfWayKillsAsAlways) {
  Pipe out;
  const std::string bytes = pattern(1 << 20);
  HeldProcess process({.out = out.write.get()});
  out.write.reset();
  std::thread leaver([fd = std::move(out.read)]() mutable {
    char buffer[1000];
    EXPECT_EQ(read(fd.get(), buffer, sizeof buffer), 1000);
    fd.reset();
  });
  StubRun stub = from_file(bytes, {{1, bytes.size()}}, 0);
  const int status = process.skip(stub);
  leaver.join();
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE) << status;
}

TEST(StubStreams, AWriteErrorIsAFailure) {
  const UniqueFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  HeldProcess process({.out = full.get()});
  StubRun stub({{1, 6}}, UniqueFd(), "hello\n", 0);
  const int status = process.skip(stub);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
}

TEST(StubStreams, IgnoringSigpipeIsAFailureToo) {
  Pipe out;
  HeldProcess process({.out = out.write.get(), .before_exec = [] { signal(SIGPIPE, SIG_IGN); }});
  out.write.reset();
  out.read.reset();
  StubRun stub({{1, 6}}, UniqueFd(), "hello\n", 0);
  const int status = process.skip(stub);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
}

TEST(StubStreams, ANonBlockingPipeLosesNothing) {
  Pipe out;
  const std::string bytes = pattern(1 << 20);
  ASSERT_EQ(fcntl(out.write.get(), F_SETFL, O_NONBLOCK), 0);
  HeldProcess process({.out = out.write.get()});
  out.write.reset();
  Reader reader(std::move(out.read), std::chrono::microseconds(500), 10000);
  StubRun stub = from_file(bytes, {{1, bytes.size()}}, 0);
  EXPECT_EQ(process.skip(stub), 0);
  EXPECT_TRUE(reader.all() == bytes);
}

TEST(StubStreams, SurviveAnIgnoredOrBlockedTrap) {
  for (const bool block : {false, true}) {
    Pipe out;
    HeldProcess process({.out = out.write.get(), .before_exec = [block] {
                           sigset_t traps;
                           sigemptyset(&traps);
                           sigaddset(&traps, SIGTRAP);
                           if (block)
                             sigprocmask(SIG_BLOCK, &traps, nullptr);
                           else
                             signal(SIGTRAP, SIG_IGN);
                         }});
    out.write.reset();
    Reader reader(std::move(out.read));
    StubRun stub({{1, 3}, {2, 3}, {1, 3}}, UniqueFd(), "onetwosix", 0);
    EXPECT_EQ(process.skip(stub), 0);
    EXPECT_EQ(reader.all(), "onesix");
  }
}

TEST(StubStreams, BelowALongArgumentList) {
  const std::string bytes = pattern(200'000);
  Pipe out;
  HeldProcess process(
      {.out = out.write.get(), .arguments = std::vector<std::string>(300, std::string(4000, 'a'))});
  out.write.reset();
  Reader reader(std::move(out.read));
  StubRun stub = from_file(bytes, {{1, bytes.size()}}, 0);
  EXPECT_EQ(process.skip(stub), 0);
  EXPECT_TRUE(reader.all() == bytes);
}

TEST(StubFailure, AShortBlobChangesNothing) {
  HeldProcess process({});
  StubRun stub = from_file("short", {{1, 100}}, 0);
  EXPECT_FALSE(stub.install(process.tid()));
  EXPECT_EQ(WEXITSTATUS(process.run(nullptr)), 99);
}

TEST(StubFailure, AStackThatIsTooSmallChangesNothing) {
  HeldProcess process({.before_exec = [] {
    const rlimit small{64 * 1024, 64 * 1024};
    setrlimit(RLIMIT_STACK, &small);
  }});
  StubRun stub({{1, 6}}, UniqueFd(), "hello\n", 0);
  if (stub.install(process.tid())) {
    EXPECT_EQ(process.run(&stub), 0);  // it went all the same
  } else {
    EXPECT_EQ(WEXITSTATUS(process.run(nullptr)), 99);
  }
}

}  // namespace
}  // namespace pcache::tracer
