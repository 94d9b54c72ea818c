#include "server/tool_fields.h"

#include <algorithm>
#include <fmt/core.h>

#include "base/text.h"

namespace facet {
namespace {

constexpr size_t kMostTools = 128;
constexpr size_t kMostToolBytes = 256 << 10;
constexpr size_t kMostNameBytes = 128;

bool is_function_name(std::string_view name) {
  constexpr std::string_view kOthers = "_.:/-";
  return !name.empty() && name.size() <= kMostNameBytes &&
         std::all_of(name.begin(), name.end(), [&](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  kOthers.find(c) != std::string_view::npos;
         });
}

/// About as many bytes as the JSON of a value takes.
size_t json_bytes(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kNull:
    case Value::Kind::kBool:
      return 4;
    case Value::Kind::kNumber:
      return value.number().text.size();
    case Value::Kind::kString:
      return value.string().size() + 2;
    case Value::Kind::kArray: {
      size_t bytes = 2;
      for (const Value& element : value.array()) bytes += json_bytes(element) + 1;
      return bytes;
    }
    case Value::Kind::kObject: {
      size_t bytes = 2;
      for (const Member& member : value.object())
        bytes += member.name.size() + json_bytes(member.value) + 4;
      return bytes;
    }
  }
  return 0;
}

const std::string& read_tool(const Value& tool, const std::string& place) {
  Fields fields(tool, place);
  const std::string* type = fields.string("type");
  if (type == nullptr) fields.fail(ApiCode::kMissingField, "type", "is missing");
  if (*type != "function") {
    fields.fail(ApiCode::kInvalidValue, "type",
                fmt::format("found \"{}\", wanted function", printable(*type, 40)));
  }
  fields.required("function");
  Fields function = *fields.object("function");
  function.required("name");
  const std::string& name = *function.string("name");
  if (!is_function_name(name)) {
    function.fail(ApiCode::kInvalidValue, "name",
                  fmt::format("found \"{}\", wanted 1 to {} of A-Z, a-z, 0-9 and _.:/-",
                              printable(name, 40), kMostNameBytes));
  }
  function.string("description");
  function.boolean("strict");
  function.object("parameters");
  return name;
}

std::vector<std::string> read_names(const Value::Array& tools) {
  std::vector<std::string> names;
  size_t bytes = 0;
  for (const Value& tool : tools) {
    const std::string place = fmt::format("tools[{}]", names.size());
    const std::string& name = read_tool(tool, place);
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      throw ApiError(ApiCode::kInvalidValue,
                     fmt::format("{}.function.name: \"{}\" is there twice", place, name),
                     place + ".function.name");
    }
    names.push_back(name);
    bytes += json_bytes(tool);
  }
  if (bytes > kMostToolBytes) {
    throw ApiError(ApiCode::kInvalidValue,
                   fmt::format("tools: found {} bytes, wanted at most {}", bytes, kMostToolBytes),
                   "tools");
  }
  return names;
}

void read_mode(Fields& fields, std::string_view name, const std::string& mode, ToolChoice& out) {
  if (mode == "none") {
    out.mode = ToolChoice::Mode::kNone;
  } else if (mode == "auto") {
    out.mode = ToolChoice::Mode::kAuto;
  } else if (mode == "required") {
    out.mode = ToolChoice::Mode::kRequired;
  } else {
    fields.fail(
        ApiCode::kInvalidValue, name,
        fmt::format("found \"{}\", wanted none, auto, required or an object", printable(mode, 40)));
  }
}

/// {"function":{"name":N}} or {"name":N}; N must be declared.
void allow_function(Fields& fields, const std::vector<std::string>& declared, ToolChoice& out) {
  std::optional<Fields> function = fields.object("function");
  Fields& at = function ? *function : fields;
  at.required("name");
  const std::string& name = *at.string("name");
  if (std::find(declared.begin(), declared.end(), name) == declared.end()) {
    at.fail(ApiCode::kInvalidValue, "name",
            fmt::format("\"{}\" is not among the tools", printable(name, 60)));
  }
  out.allowed.push_back(name);
}

void read_allowed(Fields& choice, const std::vector<std::string>& declared, ToolChoice& out) {
  std::optional<Fields> nested = choice.object("allowed_tools");
  Fields& fields = nested ? *nested : choice;
  const std::string* mode = fields.string("mode");
  if (mode == nullptr || (*mode != "auto" && *mode != "required"))
    fields.fail(ApiCode::kInvalidValue, "mode", "wanted auto or required");
  read_mode(fields, "mode", *mode, out);
  fields.required("tools");
  const Value::Array& list = *fields.array("tools");
  if (list.empty()) fields.fail(ApiCode::kInvalidValue, "tools", "is empty");
  for (size_t i = 0; i < list.size(); ++i) {
    Fields one(list[i], fmt::format("{}[{}]", fields.path_of("tools"), i));
    allow_function(one, declared, out);
  }
}

void read_choice(Fields& fields, const std::vector<std::string>& declared, ToolChoice& out) {
  const Value* choice = fields.find("tool_choice");
  if (choice == nullptr) return;
  if (choice->is_string()) return read_mode(fields, "tool_choice", choice->string(), out);
  Fields object = *fields.object("tool_choice");
  const std::string* type = object.string("type");
  if (type != nullptr && *type == "allowed_tools") return read_allowed(object, declared, out);
  if (type != nullptr && *type != "function") {
    object.fail(
        ApiCode::kInvalidValue, "type",
        fmt::format("found \"{}\", wanted function or allowed_tools", printable(*type, 40)));
  }
  allow_function(object, declared, out);
  out.mode = ToolChoice::Mode::kRequired;
  out.named = true;
}

}  // namespace

void read_tools(Fields& fields, ChatPrompt& prompt) {
  const Value::Array* tools = fields.array("tools");
  fields.ignore({"tool_choice"});
  const std::optional<bool> parallel = fields.boolean("parallel_tool_calls");
  if (tools == nullptr || tools->empty()) return;
  if (tools->size() > kMostTools) {
    fields.fail(ApiCode::kInvalidValue, "tools",
                fmt::format("found {} tools, wanted at most {}", tools->size(), kMostTools));
  }
  const std::vector<std::string> names = read_names(*tools);
  prompt.tools = fields.find("tools");
  prompt.tool_choice.mode = ToolChoice::Mode::kAuto;
  read_choice(fields, names, prompt.tool_choice);
  prompt.parallel_tool_calls = parallel.value_or(true);
}

}  // namespace facet
