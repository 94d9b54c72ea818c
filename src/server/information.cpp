// /model_info, /server_info, /props, /version (server-api 10.4).

#include "server/information.h"

namespace facet {

std::string model_info_body(const ServerView& view) {
  const ServedModel& model = view.model;
  JsonWriter json;
  json.open_object().member("model_path", model.folder).member("tokenizer_path", model.folder);
  json.member("is_generation", true).member("has_image_understanding", false);
  json.member("has_audio_understanding", false).member("model_type", model.info.model_type);
  json.key("architectures").open_array();
  for (const std::string& name : model.info.architectures) json.text(name);
  json.close_array().member("weight_version", "default").close_object();
  return json.release();
}

std::string server_info_body(const ServerView& view) {
  const ServedInfo& info = view.model.info;
  JsonWriter json;
  json.open_object().member("version", info.version).member("commit", info.commit);
  json.member("model", view.settings.names.front()).member("model_path", view.model.folder);
  json.member("fingerprint", view.model.fingerprint).key("settings").raw(info.settings);
  json.key("internal_states").open_array().open_object();
  json.key("avg_spec_accept_length").null();  // it does not speculate
  json.key("last_gen_throughput");
  json.number(view.meters.tokens_per_second(ServerMeters::Clock::now()));
  json.close_object()
      .close_array()
      .key("memory")
      .raw(info.memory)
      .key("kernels")
      .raw(info.kernels)
      .close_object();
  return json.release();
}

std::string props_body(const ServerView& view) {
  const ServedModel& model = view.model;
  JsonWriter json;
  json.open_object().key("default_generation_settings").open_object();
  json.member("n_ctx", model.max_model_len).close_object();
  json.member("total_slots", view.engine.limits().max_running).member("model_path", model.folder);
  json.key("modalities").open_object().member("vision", false).member("audio", false);
  json.close_object().member("chat_template", model.chat_template).close_object();
  return json.release();
}

std::string version_body(const ServerView& view) {
  JsonWriter json;
  json.open_object().member("version", view.model.info.version).close_object();
  return json.release();
}

}  // namespace facet
