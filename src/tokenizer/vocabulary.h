#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "tokenizer/character_table.h"
#include "tokenizer/control_set.h"
#include "tokenizer/entry_table.h"
#include "tokenizer/merge_table.h"
#include "tokenizer/splitter.h"

namespace facet {

/// All that a tokenizer.json says, checked and made ready for use. Constant, never moved.
struct Vocabulary {
  /// Throws as Tokenizer::parse does.
  static std::unique_ptr<const Vocabulary> parse(std::string_view json);

  Vocabulary(EntryTable entries_in,
             ControlSet controls_in,
             CharacterTable characters_in,
             MergeTable merges_in,
             Splitter splitter_in,
             std::vector<bool> is_control_in);
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  EntryTable entries;
  ControlSet controls;
  CharacterTable characters;
  MergeTable merges;
  Splitter splitter;
  std::vector<bool> is_control;  // by id
};

}  // namespace facet
