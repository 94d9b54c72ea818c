#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace facet::cli {

/// Each adds one command to `app`. When the command line names it, `chosen` becomes what to run.
void add_version(CLI::App& app, std::function<void()>& chosen);

}  // namespace facet::cli
