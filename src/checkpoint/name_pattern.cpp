#include "checkpoint/name_pattern.h"

#include <algorithm>
#include <array>

namespace facet {
namespace {

// Longest first: the first two also start with, or hold, the third.
constexpr std::array<std::string_view, 3> kRoots = {"model.language_model.",
                                                    "language_model.model.", "model."};

/// The length of the root that `module` starts with, or 0.
size_t root_length(std::string_view module) {
  for (const std::string_view root : kRoots) {
    if (module.starts_with(root)) return root.size();
  }
  return 0;
}

std::string reversed(std::string_view text) { return {text.rbegin(), text.rend()}; }

}  // namespace

bool glob_match(std::string_view pattern, std::string_view name) {
  size_t p = 0;
  size_t n = 0;
  size_t star = std::string_view::npos;  // the last `*` seen, and where its run ends for now
  size_t run_end = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      run_end = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++run_end;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::vector<std::string> module_aliases(std::string_view module) {
  std::vector<std::string> names = {std::string(module)};
  const size_t length = root_length(module);
  if (length == 0) return names;
  for (const std::string_view root : kRoots) {
    if (root == module.substr(0, length)) continue;
    names.push_back(std::string(root).append(module.substr(length)));
  }
  return names;
}

std::string canonical_module(std::string_view module) {
  const size_t length = root_length(module);
  if (length == 0) return std::string(module);
  return std::string(kRoots.back()).append(module.substr(length));
}

PrefixSet::PrefixSet(std::vector<std::string> prefixes) {
  std::sort(prefixes.begin(), prefixes.end());
  for (std::string& prefix : prefixes) {
    if (sorted_.empty() || !prefix.starts_with(sorted_.back())) {
      sorted_.push_back(std::move(prefix));
    }
  }
}

bool PrefixSet::has_prefix_of(std::string_view text) const {
  // What lies between a prefix P of `text` and `text` itself in the order starts with P, so it can
  // only be P: no element starts with another.
  const auto after = std::upper_bound(sorted_.begin(), sorted_.end(), text);
  return after != sorted_.begin() && text.starts_with(*std::prev(after));
}

ModulePatterns::ModulePatterns(const std::vector<std::string>& patterns) {
  std::vector<std::string> heads;
  std::vector<std::string> tails;
  for (const std::string& pattern : patterns) {
    if (pattern.empty()) continue;
    const auto stars = std::count(pattern.begin(), pattern.end(), '*');
    if (stars == 0) {
      heads.push_back(pattern + ".");
      tails.push_back(reversed("." + pattern));
      if (pattern.find('.') == std::string::npos) components_.push_back(pattern);
    } else if (stars == 1 && pattern.back() == '*') {
      heads.push_back(pattern.substr(0, pattern.size() - 1));
    } else if (stars == 1 && pattern.front() == '*') {
      tails.push_back(reversed(std::string_view(pattern).substr(1)));
    } else {
      globs_.push_back(pattern);
    }
  }
  heads_ = PrefixSet(std::move(heads));
  tails_ = PrefixSet(std::move(tails));
  std::sort(components_.begin(), components_.end());
}

bool ModulePatterns::matches_one(std::string_view name) const {
  if (heads_.has_prefix_of(std::string(name) + ".")) return true;
  if (tails_.has_prefix_of(reversed(name) + ".")) return true;
  for (size_t begin = 0; !components_.empty() && begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view component = name.substr(begin, end - begin);
    if (std::binary_search(components_.begin(), components_.end(), component)) return true;
    begin = end + 1;
  }
  return std::any_of(globs_.begin(), globs_.end(),
                     [name](const std::string& glob) { return glob_match(glob, name); });
}

bool ModulePatterns::matches(std::string_view module) const {
  const std::vector<std::string> names = module_aliases(module);
  return std::any_of(names.begin(), names.end(),
                     [this](const std::string& name) { return matches_one(name); });
}

}  // namespace facet
