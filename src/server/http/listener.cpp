#include "server/http/listener.h"

#include <algorithm>
#include <arpa/inet.h>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <fcntl.h>
#include <fmt/core.h>
#include <netinet/tcp.h>
#include <new>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "server/http/connection.h"
#include "server/http/loop_impl.h"
#include "server/http/resolve.h"
#include "server/http/transport.h"

namespace facet::http {

namespace asio = boost::asio;
using Protocol = asio::generic::stream_protocol;
using Acceptor = asio::basic_socket_acceptor<Protocol>;

namespace {

/// Connections beyond the limit that are still read, so that health is answered.
constexpr size_t kSpareConnections = 64;
/// All connections are looked at in so many slices, one a period: time limits that pass together,
/// those of thousands of slow peers, must not hold the loop up.
constexpr size_t kSlices = 20;
constexpr auto kSlicePeriod = std::chrono::milliseconds(10);
constexpr auto kRetryAccept = std::chrono::milliseconds(100);

asio::ip::tcp::endpoint endpoint_of(const std::string& host, uint16_t port) {
  SystemError error;
  const Addresses found = resolve(host, std::to_string(port), error);
  if (error || found.empty()) {
    throw Error(ErrorCode::kUsage,
                fmt::format("--host '{}': {}", printable(host, 80), error.message()));
  }
  return found.begin()->endpoint();
}

void set_option(int socket, int level, int name, int value) {
  // One that an old kernel lacks is no reason to refuse a peer.
  (void)setsockopt(socket, level, name, &value, sizeof value);
}

void set_options(int socket, bool tcp, const Limits& limits) {
  set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  if (!tcp) return;
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  // What a slow reader has not taken must show in our own buffer, not pile up in the kernel's.
  set_option(socket, IPPROTO_TCP, TCP_NOTSENT_LOWAT, static_cast<int>(limits.system_unsent));
}

Peer peer_of(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return {text, (ntohl(v4.sin_addr.s_addr) >> 24) == 127};
  }
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    const std::string_view view(text);
    return {text, IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) || view.starts_with("::ffff:127.")};
  }
  return {"", true};
}

/// Throws Error{kUnsafeSettings} if the file cannot be opened; OpenSSL's own words for that are
/// hard to read.
void check_readable(const std::string& path, const std::string& place) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    throw Error(ErrorCode::kUnsafeSettings,
                "cannot be opened: " + std::generic_category().message(errno), place);
  }
  ::close(file);
}

}  // namespace

bool is_loopback(const std::string& host) { return endpoint_of(host, 0).address().is_loopback(); }

struct Listener::Impl {
  Impl(Loop& loop, Handler& handler, const ListenOptions& options_in)
      : options(options_in),
        io(loop.impl().io),
        acceptor(io),
        retry(io),
        context{options.limits, handler, [this](Connection& one) { forget(one); }} {
    if (!options.tls_certificate.empty()) use_tls();
    if (options.unix_socket.empty()) {
      listen_tcp();
    } else {
      listen_unix();
    }
    loop.every(kSlicePeriod, [this] { sweep(); });
    accept();
  }

  ~Impl() {
    if (!options.unix_socket.empty()) unlink(options.unix_socket.c_str());
  }

  void use_tls() {
    tls.emplace(asio::ssl::context::tls_server);
    SystemError error;
    tls->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                     asio::ssl::context::no_tlsv1_1);
    // Nobody is there to be asked for a passphrase.
    tls->set_password_callback(
        [](size_t, asio::ssl::context::password_purpose) { return std::string(); });
    const std::string certificate = "--tls-cert " + printable(options.tls_certificate, 200);
    check_readable(options.tls_certificate, certificate);
    tls->use_certificate_chain_file(options.tls_certificate, error);
    if (error) {
      throw Error(ErrorCode::kUnsafeSettings,
                  "holds no certificate, wanted a chain in PEM (" + error.message() + ")",
                  certificate);
    }
    const std::string key = "--tls-key " + printable(options.tls_key, 200);
    check_readable(options.tls_key, key);
    tls->use_private_key_file(options.tls_key, asio::ssl::context::pem, error);
    if (error &&
        ERR_GET_REASON(static_cast<unsigned long>(error.value())) == X509_R_KEY_VALUES_MISMATCH) {
      throw Error(ErrorCode::kUnsafeSettings, "is not the key of " + certificate, key);
    }
    if (error) {
      throw Error(
          ErrorCode::kUnsafeSettings,
          "holds no private key, wanted one in PEM without a passphrase (" + error.message() + ")",
          key);
    }
  }

  void open(const Protocol::endpoint& endpoint, const std::string& name) {
    SystemError error;
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(4096, error);
    if (error) throw Error(ErrorCode::kUsage, "cannot listen: " + error.message(), name);
  }

  void listen_tcp() {
    const asio::ip::tcp::endpoint wanted = endpoint_of(options.host, options.port);
    open(wanted, fmt::format("{} port {}", options.host, options.port));
    sockaddr_storage bound{};
    socklen_t size = sizeof bound;
    getsockname(acceptor.native_handle(), reinterpret_cast<sockaddr*>(&bound), &size);
    const uint16_t port = bound.ss_family == AF_INET6
                              ? reinterpret_cast<const sockaddr_in6&>(bound).sin6_port
                              : reinterpret_cast<const sockaddr_in&>(bound).sin_port;
    const std::string address = wanted.address().to_string();
    url = fmt::format("{}://{}:{}", tls ? "https" : "http",
                      wanted.address().is_v6() ? "[" + address + "]" : address, ntohs(port));
  }

  void listen_unix() {
    struct stat found {};
    // A socket that a dead server left behind is in the way; anything else is not ours to remove.
    if (lstat(options.unix_socket.c_str(), &found) == 0 && S_ISSOCK(found.st_mode)) {
      SystemError refused;
      asio::local::stream_protocol::socket probe(io);
      probe.connect(asio::local::stream_protocol::endpoint(options.unix_socket), refused);
      if (!refused)
        throw Error(ErrorCode::kUsage, "another server listens there", options.unix_socket);
      unlink(options.unix_socket.c_str());
    }
    const mode_t before = umask(0117);  // mode 0660
    try {
      open(asio::local::stream_protocol::endpoint(options.unix_socket), options.unix_socket);
    } catch (...) {
      umask(before);
      throw;
    }
    umask(before);
    url = options.unix_socket;
  }

  void accept() {
    acceptor.async_accept([this](const SystemError& error, Socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) {
        // Most likely no descriptor is left: some will come back.
        log_warning("http", "accept failed error=\"{}\"", error.message());
        retry.expires_after(kRetryAccept);
        retry.async_wait([this](const SystemError& stopped) {
          if (!stopped) accept();
        });
        return;
      }
      try {
        take(std::move(socket));
      } catch (const std::bad_alloc&) {
        log_warning("http", "connection dropped: no memory");
      }
      accept();
    });
  }

  void take(Socket socket) {
    const bool tcp = options.unix_socket.empty();
    set_options(socket.native_handle(), tcp, options.limits);
    Peer peer = peer_of(socket.native_handle());
    const auto most = static_cast<size_t>(options.limits.connections);
    if (connections.size() >= most + kSpareConnections) return;  // dropped
    int32_t& of_peer = by_address[peer.address];
    const bool too_many = !peer.is_local && of_peer >= options.limits.connections_per_address;
    auto transport = tls ? make_tls_transport(std::move(socket), *tls)
                         : make_plain_transport(std::move(socket), scratch);
    const auto one = std::make_shared<Connection>(std::move(transport), std::move(peer),
                                                  too_many || connections.size() >= most, context);
    connections.insert(one);
    ++of_peer;
    one->start();
  }

  void forget(Connection& one) {
    const auto count = by_address.find(one.peer().address);
    if (count != by_address.end() && --count->second == 0) by_address.erase(count);
    connections.erase(one.shared_from_this());
  }

  void sweep() {
    const auto now = Connection::Clock::now();
    if (slices_left == 0) {
      // What a time limit ends leaves the set at once.
      swept.assign(connections.begin(), connections.end());
      slices_left = kSlices;
    }
    const size_t rest = swept.size() - swept.size() / slices_left--;
    for (; swept.size() > rest; swept.pop_back()) swept.back()->check_time(now);
  }

  const ListenOptions options;
  asio::io_context& io;
  Acceptor acceptor;
  asio::steady_timer retry;
  std::optional<asio::ssl::context> tls;
  std::string url;
  std::vector<char> scratch = std::vector<char>(64 << 10);
  ConnectionContext context;
  std::unordered_set<std::shared_ptr<Connection>> connections;
  std::unordered_map<std::string, int32_t> by_address;
  std::vector<std::shared_ptr<Connection>> swept;  // not looked at yet in this round
  size_t slices_left = 0;                          // of this round
};

Listener::Listener(Loop& loop, Handler& handler, const ListenOptions& options)
    : impl_(std::make_unique<Impl>(loop, handler, options)) {}

// Connections hold callbacks that hold them; closing lets go of both.
Listener::~Listener() {
  impl_->swept.assign(impl_->connections.begin(), impl_->connections.end());
  for (const auto& one : impl_->swept) one->abort();
}

const std::string& Listener::url() const { return impl_->url; }
void Listener::drain() { impl_->context.draining = true; }

int64_t Listener::busy_connections() const {
  return std::count_if(impl_->connections.begin(), impl_->connections.end(),
                       [](const auto& one) { return one->busy(); });
}

int64_t Listener::connections() const { return std::ssize(impl_->connections); }

}  // namespace facet::http
