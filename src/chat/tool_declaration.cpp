#include "chat/tool_declaration.h"

#include <algorithm>
#include <fmt/core.h>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "chat/case_map.h"
#include "chat/python_text.h"

namespace facet {
namespace {

/// Members that describe a schema itself, where an object without properties is read as if its own
/// members were properties.
constexpr std::string_view kSchemaMembers[] = {"description", "type", "properties", "required",
                                               "nullable"};

enum class Filter { kNone, kSchemaMembers };

bool is_schema_member(std::string_view name) {
  return std::find(std::begin(kSchemaMembers), std::end(kSchemaMembers), name) !=
         std::end(kSchemaMembers);
}

/// The member unless it is absent, null, "", [], {}, false or 0.
const Value* find_filled(const Value& object, std::string_view name) {
  const Value* value = object.find(name);
  return value == nullptr || value->is_empty() ? nullptr : value;
}

/// Upper case of what Python prints; nothing if absent.
std::string upper(const Value* value) {
  return value == nullptr ? std::string() : to_upper(python_text(*value));
}

[[noreturn]] void fail(std::string_view field, const Value* found, std::string_view wanted) {
  throw Error(
      ErrorCode::kBadInput,
      fmt::format("found {}, wanted {}", found == nullptr ? "nothing" : kind_name(*found), wanted),
      std::string(field));
}

/// Writes one declaration; the path of what is being written goes into messages.
class DeclarationWriter {
 public:
  DeclarationWriter(PromptWriter& out, std::string_view null_word)
      : out_(out), null_word_(null_word) {}

  void function(const Value& tool);

 private:
  void parameters(const Value& parameters);
  void response(const Value& response);
  void properties(const Value::Object& object, Filter filter);
  void property(const Value& schema);
  void items(const Value::Object& items);
  void object_fields(const Value& schema);
  void item_type(const Value& type);
  void required(const Value& names);

  /// Starts the next field of a property: a comma unless it is the first.
  void field(std::string_view name) {
    if (!std::exchange(first_field_, false)) out_.text(",");
    out_.text(name);
  }

  PromptWriter& out_;
  std::string_view null_word_;
  std::string place_ = "function";
  bool first_field_ = true;
};

void DeclarationWriter::function(const Value& tool) {
  const Value* function = tool.find("function");
  if (function == nullptr || !function->is_object()) fail("function", function, "an object");
  const Value* name = function->find("name");
  if (name == nullptr || !name->is_string()) fail("function.name", name, "a string");
  out_.text("declaration:");
  out_.text(name->string());
  out_.text("{description:");
  const Value* description = function->find_set("description");
  out_.quoted(description == nullptr ? std::string() : python_text(*description));
  if (const Value* schema = find_filled(*function, "parameters")) {
    if (!schema->is_object()) fail("function.parameters", schema, "an object");
    parameters(*schema);
  }
  if (const Value* answer = function->find("response")) response(*answer);
  out_.text("}");
}

void DeclarationWriter::parameters(const Value& parameters) {
  place_ = "function.parameters";
  out_.text(",parameters:{");
  if (const Value* list = find_filled(parameters, "properties")) {
    if (!list->is_object()) fail(place_ + ".properties", list, "an object");
    out_.text("properties:{");
    properties(list->object(), Filter::kNone);
    out_.text("},");
  }
  if (const Value* names = find_filled(parameters, "required")) {
    required(*names);
    out_.text(",");
  }
  if (const Value* type = find_filled(parameters, "type")) {
    out_.text("type:");
    out_.quoted(upper(type));
    out_.text("}");
  }
}

void DeclarationWriter::response(const Value& response) {
  out_.text(",response:{");
  if (const Value* description = find_filled(response, "description")) {
    out_.text("description:");
    out_.quoted(python_text(*description));
    out_.text(",");
  }
  if (upper(response.find("type")) == "OBJECT") {
    out_.text("type:");
    out_.quoted("OBJECT");
    out_.text("}");
  }
}

void DeclarationWriter::properties(const Value::Object& object, Filter filter) {
  std::string_view between;
  for (const Member* member : sorted_members(object)) {
    if (filter == Filter::kSchemaMembers && is_schema_member(member->name)) continue;
    out_.text(between);
    between = ",";
    out_.text(member->name);
    out_.text(":{");
    const size_t length = place_.size();
    place_ += fmt::format(".{}", printable(member->name, 60));
    const bool first = std::exchange(first_field_, true);
    property(member->value);
    first_field_ = first;
    place_.resize(length);
    out_.text("}");
  }
}

void DeclarationWriter::property(const Value& schema) {
  if (const Value* description = find_filled(schema, "description")) {
    field("description:");
    out_.quoted(python_text(*description));
  }
  const std::string type = upper(schema.find("type"));
  if (type == "STRING") {
    if (const Value* values = find_filled(schema, "enum")) {
      field("enum:");
      write_value(out_, *values, KeyStyle::kQuoted, null_word_);
    }
  } else if (type == "ARRAY") {
    const Value* element = find_filled(schema, "items");
    if (element != nullptr && element->is_object()) {
      field("items:{");
      items(element->object());
      out_.text("}");
    }
  }
  if (find_filled(schema, "nullable") != nullptr) field("nullable:true");
  if (type == "OBJECT") object_fields(schema);
  field("type:");
  out_.quoted(type);
}

void DeclarationWriter::object_fields(const Value& schema) {
  field("properties:{");
  const Value* list = schema.find("properties");
  if (list != nullptr && list->is_object()) {
    properties(list->object(), Filter::kNone);
  } else {
    properties(schema.object(), Filter::kSchemaMembers);
  }
  out_.text("}");
  if (const Value* names = find_filled(schema, "required")) {
    field("");
    required(*names);
  }
}

void DeclarationWriter::items(const Value::Object& items) {
  const size_t length = place_.size();
  place_ += ".items";
  std::string_view between;
  for (const Member* member : sorted_members(items)) {
    if (member->value.is_null()) continue;
    out_.text(between);
    between = ",";
    if (member->name == "properties") {
      out_.text("properties:{");
      if (member->value.is_object()) properties(member->value.object(), Filter::kNone);
      out_.text("}");
    } else if (member->name == "required") {
      required(member->value);
    } else if (member->name == "type") {
      out_.text("type:");
      item_type(member->value);
    } else {
      out_.text(member->name);
      out_.text(":");
      write_value(out_, member->value, KeyStyle::kQuoted, null_word_);
    }
  }
  place_.resize(length);
}

void DeclarationWriter::item_type(const Value& type) {
  if (type.is_string()) return out_.quoted(to_upper(type.string()));
  if (!type.is_array()) fail(place_ + ".type", &type, "a string or an array");
  std::string_view between;
  out_.text("[");
  for (const Value& name : type.array()) {
    out_.text(between);
    between = ",";
    out_.quoted(upper(&name));
  }
  out_.text("]");
}

void DeclarationWriter::required(const Value& names) {
  if (!names.is_array()) fail(place_ + ".required", &names, "an array of names");
  std::string_view between;
  out_.text("required:[");
  for (const Value& name : names.array()) {
    out_.text(between);
    between = ",";
    out_.quoted(python_text(name));
  }
  out_.text("]");
}

void write_members(PromptWriter& out,
                   const Value::Object& object,
                   KeyStyle keys,
                   std::string_view null_word) {
  std::string_view between;
  for (const Member* member : sorted_members(object)) {
    out.text(between);
    between = ",";
    if (keys == KeyStyle::kQuoted) {
      out.quoted(member->name);
    } else {
      out.text(member->name);
    }
    out.text(":");
    write_value(out, member->value, keys, null_word);
  }
}

}  // namespace

std::vector<const Member*> sorted_members(const Value::Object& object) {
  std::vector<std::pair<std::string, const Member*>> keyed;
  keyed.reserve(object.size());
  for (const Member& member : object) keyed.emplace_back(to_lower(member.name), &member);
  // Bytes of UTF-8 compare as code points do.
  std::stable_sort(keyed.begin(), keyed.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<const Member*> result;
  result.reserve(keyed.size());
  for (const auto& [key, member] : keyed) result.push_back(member);
  return result;
}

void write_value(PromptWriter& out, const Value& value, KeyStyle keys, std::string_view null_word) {
  switch (value.kind()) {
    case Value::Kind::kNull:
      return out.text(null_word);
    case Value::Kind::kBool:
      return out.text(value.boolean() ? "true" : "false");
    case Value::Kind::kNumber:
      return out.text(number_text(value.number()));
    case Value::Kind::kString:
      return out.quoted(value.string());
    case Value::Kind::kArray: {
      std::string_view between;
      out.text("[");
      for (const Value& element : value.array()) {
        out.text(between);
        between = ",";
        write_value(out, element, keys, null_word);
      }
      return out.text("]");
    }
    case Value::Kind::kObject:
      out.text("{");
      write_members(out, value.object(), keys, null_word);
      return out.text("}");
  }
}

void write_declaration(PromptWriter& out, const Value& tool, std::string_view null_word) {
  DeclarationWriter(out, null_word).function(tool);
}

}  // namespace facet
