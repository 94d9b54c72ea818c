// Everything that writes meets a disk that is full, or a file that is closed. Output that was asked
// for and cannot be written ends a command with 65 and one line, and leaves no half file; what goes
// to stderr is for people, and ends nothing.

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fmt/core.h>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/process.h"
#include "tests/e2e/server.h"
#include "tests/fault/faults.h"

namespace facet {
namespace {

namespace fs = std::filesystem;
using test::FaultKind;
using test::Faults;
using test::Finished;
using test::run_facet;
using test::RunOptions;
using testing::EndsWith;
using testing::HasSubstr;

constexpr int kCannotWrite = 65;
constexpr const char* kFull = "/dev/full";

/// One line says why, though a report of several faults may follow, or progress precede it.
void expect_reason(const std::string& err) {
  const std::string begin = "facet: ";
  const size_t at = err.find(begin);
  ASSERT_NE(at, std::string::npos) << err;
  EXPECT_TRUE(at == 0 || err[at - 1] == '\n') << err;
  EXPECT_EQ(err.find("\n" + begin, at), std::string::npos) << err;
}

struct Printing {
  std::vector<std::string> arguments;
  std::string input;
};

std::vector<Printing> printing() {
  const std::string chat = R"({"messages":[{"role":"user","content":"Hello"}]})";
  return {{{"version"}, ""},
          {{"--help"}, ""},
          {{"serve", "--help"}, ""},
          {{"info", "fable"}, ""},
          {{"info", "fable", "--json"}, ""},
          {{"check", "fable"}, ""},
          {{"tokenize", "fable"}, "The fox"},
          {{"tokenize", "fable", "--jsonl"}, "\"The fox\"\n"},
          {{"detokenize", "fable"}, "9,10"},
          {{"render", "fable"}, chat},
          {{"render", "fable", "--jsonl"}, chat + "\n"},
          {{"generate", "fable", "--ids", "2,9", "--max-tokens", "2"}, ""},
          {{"run", "fable", "Hello", "--max-tokens", "2"}, ""},
          {{"run", "fable", "Hello", "--max-tokens", "2", "--json"}, ""}};
}

TEST(DiskFull, StdoutIsFull) {
  for (const Printing& each : printing()) {
    SCOPED_TRACE(each.arguments[0]);
    const Finished run = run_facet(each.arguments, RunOptions{.input = each.input, .out = kFull});
    EXPECT_EQ(run.exit_code, kCannotWrite);
    EXPECT_THAT(run.err, EndsWith("facet: stdout: the output could not be written\n"));
    expect_reason(run.err);
  }
}

TEST(DiskFull, StdoutIsClosed) {
  for (const Printing& each : printing()) {
    SCOPED_TRACE(each.arguments[0]);
    const Finished run =
        run_facet(each.arguments, RunOptions{.input = each.input, .closed = STDOUT_FILENO});
    EXPECT_EQ(run.exit_code, kCannotWrite) << run.err;
    EXPECT_THAT(run.err, EndsWith("facet: stdout: the output could not be written\n"));
    expect_reason(run.err);
  }
}

TEST(DiskFull, StderrIsFullOrClosed) {
  for (const RunOptions& options :
       {RunOptions{.err = kFull}, RunOptions{.closed = STDERR_FILENO}}) {
    EXPECT_EQ(run_facet({"version"}, options).exit_code, 0);
    EXPECT_EQ(run_facet({"nonsense"}, options).exit_code, test::kUsage);
    EXPECT_EQ(run_facet({"version", "--nonsense"}, options).exit_code, test::kUsage);
    EXPECT_EQ(run_facet({"info", "/nowhere"}, options).exit_code, test::kUsage);
    const Finished run =
        run_facet({"run", "fable", "Hello", "--max-tokens", "2", "--verbose"}, options);
    EXPECT_EQ(run.exit_code, 0);
    EXPECT_NE(run.out, "");
  }
}

/// What is written must not land in a file that got the number of a closed one.
TEST(DiskFull, NoFileTakesThePlaceOfAClosedOne) {
  const test::TempDir dir;
  const std::vector<std::string> command = {"logits", "fable", "--ids", "2,9,10", "--out"};
  const auto written = [&](const char* name, const RunOptions& options) {
    std::vector<std::string> arguments = command;
    arguments.push_back(dir.path(name));
    EXPECT_EQ(run_facet(arguments, options).exit_code, 0);
    return test::read_text(dir.path(name));
  };
  const std::string want = written("plain", {});
  EXPECT_EQ(written("stdin", {.closed = STDIN_FILENO}), want);
  EXPECT_EQ(written("stderr", {.closed = STDERR_FILENO}), want);
}

TEST(DiskFull, ADeviceIsNotReplaced) {
  const Finished run = run_facet({"logits", "fable", "--ids", "2,9", "--out", kFull});
  EXPECT_EQ(run.exit_code, kCannotWrite);
  expect_reason(run.err);
  EXPECT_TRUE(fs::is_character_file(kFull));
}

// ---- Files

/// A command that writes files under a folder of its own.
struct Writing {
  const char* name;
  const char* on_small_disk;  ///< what is said where there is no room; "": it fits
  std::function<std::vector<std::string>(const std::string& folder)> arguments;
};

std::vector<Writing> writing() {
  return {{"logits --out", "cannot be written: No space left on device",
           [](const std::string& to) -> std::vector<std::string> {
             return {"logits",   test::golden("moe-bf16-fused"),
                     "--ids",    "2,9,10,11,12,13,14,15,16",
                     "--hidden", "--out",
                     to + "/l"};
           }},
          {"quantize", "cannot be written: No space left on device",
           [](const std::string& to) -> std::vector<std::string> {
             return {"quantize", test::golden("moe-bf16-fused"), to + "/q", "--format", "nvfp4"};
           }},
          {"synth", "no room",
           [](const std::string& to) -> std::vector<std::string> {
             return {"synth", test::golden("moe-bf16-fused") + "/config.json", "--out", to + "/s"};
           }},
          {"check --write-manifest", "",
           [](const std::string& to) -> std::vector<std::string> {
             return {"check", test::golden("moe-bf16-fused"), "--write-manifest", to + "/m.json"};
           }},
          {"--cpu-weights-cache", "--cpu-weights-cache is not written",
           [](const std::string& to) -> std::vector<std::string> {
             return {"generate",
                     test::golden("moe-bf16-fused"),
                     "--ids",
                     "2",
                     "--max-tokens",
                     "1",
                     "--backend",
                     "cpu",
                     "--cpu-weights",
                     "int8",
                     "--cpu-weights-cache",
                     to + "/c"};
           }}};
}

/// Files below `folder`, by name, with their content.
std::map<std::string, std::string> files_of(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file())
      files[fs::relative(entry.path(), folder)] = test::read_text(entry.path());
  }
  return files;
}

struct Fault {
  FaultKind kind;
  int error;
};

TEST(DiskFull, EveryWriteOfEveryWriterFails) {
  const std::string reason = test::no_faults_reason();
  if (!reason.empty()) GTEST_SKIP() << reason;
  constexpr int64_t kMost = 6;  // of each kind and writer
  for (const Writing& each : writing()) {
    SCOPED_TRACE(each.name);
    const test::TempDir good;
    const Finished whole = run_facet(each.arguments(good.path()));
    ASSERT_EQ(whole.exit_code, 0) << whole.err;
    const std::map<std::string, std::string> want = files_of(good.path());
    ASSERT_FALSE(want.empty());
    int64_t failed = 0;
    for (const Fault& fault : {Fault{FaultKind::kWrite, ENOSPC}, Fault{FaultKind::kFsync, EIO},
                               Fault{FaultKind::kRename, ENOSPC}, Fault{FaultKind::kOpen, EMFILE},
                               Fault{FaultKind::kMmap, ENOMEM}, Fault{FaultKind::kRead, EIO}}) {
      Faults faults;
      const RunOptions options{.environment = faults.environment()};
      const auto run = [&] {
        const test::TempDir dir;
        const Finished finished = run_facet(each.arguments(dir.path()), options);
        for (const auto& [name, content] : files_of(dir.path())) {
          EXPECT_TRUE(want.contains(name)) << name;
          EXPECT_TRUE(!want.contains(name) || content == want.at(name)) << name << " is not whole";
        }
        return finished;
      };
      faults.count(fault.kind);
      run();
      const int64_t calls = faults.counted();
      for (int64_t n = 1; n <= calls; n += std::max<int64_t>(1, calls / kMost)) {
        SCOPED_TRACE(fmt::format("kind {} call {}", static_cast<int>(fault.kind), n));
        faults.arm(fault.kind, n, fault.error);
        const Finished finished = run();
        if (faults.disarm() == 0 || finished.exit_code == 0) continue;
        ++failed;
        EXPECT_THAT(finished.exit_code, testing::AnyOf(kCannotWrite, 70, 71)) << finished.err;
        expect_reason(finished.err);
      }
    }
    EXPECT_GT(failed, 0);
  }
}

/// Room for a few pages; false where this user may not mount.
bool mount_small_disk(const std::string& at) {
  return (unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) &&
         mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("facet", at.c_str(), "tmpfs", 0, "size=16k") == 0;
}

bool may_mount(const std::string& at) {
  const pid_t child = fork();
  if (child == 0) _exit(mount_small_disk(at) ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  return status == 0;
}

TEST(DiskFull, ADiskOfFourPages) {
  const test::TempDir disk;
  if (!may_mount(disk.path())) GTEST_SKIP() << "no right to mount a tmpfs";
  for (const Writing& each : writing()) {
    SCOPED_TRACE(each.name);
    const std::string said = each.on_small_disk;
    if (said.empty()) continue;
    const Finished run = run_facet(each.arguments(disk.path()), RunOptions{.before = [&] {
                                     if (!mount_small_disk(disk.path())) _exit(126);
                                   }});
    EXPECT_THAT(run.err, HasSubstr(said));
    // Copies of weights are kept for the next start only; this one goes on without.
    const bool needed = said.find("cache") == std::string::npos;
    EXPECT_EQ(run.exit_code, needed ? kCannotWrite : 0) << run.err;
    if (needed) expect_reason(run.err);
  }
}

// ---- The server's log

TEST(DiskFull, TheServerServesOnWithoutItsLog) {
  const std::string reason = test::no_faults_reason();
  if (!reason.empty()) GTEST_SKIP() << reason;
  Faults faults;
  test::TestServer server(std::vector<std::string>(), faults.environment());
  // Only lines of the log are written by now.
  faults.arm(FaultKind::kWrite, 1, ENOSPC);
  server.expect_well();
  EXPECT_TRUE(faults.fires());  // the line comes after the answer
  EXPECT_EQ(faults.disarm(), 1);
  EXPECT_EQ(server.log().find("done id="), std::string::npos);
  server.expect_well();
  EXPECT_TRUE(server.logs("warning log lines lost count=1\n"));
  EXPECT_TRUE(server.logs("done id="));
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
}

}  // namespace
}  // namespace facet
