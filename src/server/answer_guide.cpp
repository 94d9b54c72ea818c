#include "server/answer_guide.h"

#include <utility>

namespace facet {
namespace {

class AnswerGuide final : public TokenGuide {
 public:
  AnswerGuide(const TokenTable& table, CallGuideOptions options)
      : guide_(table, std::move(options)) {}

  Rule next() override {
    const CallGuide::Rule rule = guide_.next();
    switch (rule.kind) {
      case CallGuide::Rule::Kind::kForced:
        return {Rule::Kind::kForced, to_index(rule.forced), {}};
      case CallGuide::Rule::Kind::kOnly:
        return {Rule::Kind::kOnly, -1, rule.only};
      case CallGuide::Rule::Kind::kAny:
        break;
    }
    return {};
  }
  void accept(int32_t id) override { guide_.accept(TokenId{id}); }

 private:
  CallGuide guide_;
};

}  // namespace

std::function<std::unique_ptr<TokenGuide>(int32_t choice)> answer_guides(const TokenTable& table,
                                                                         CallGuideOptions options) {
  return [&table, options = std::move(options)](int32_t /*choice*/) {
    return std::make_unique<AnswerGuide>(table, options);
  };
}

}  // namespace facet
