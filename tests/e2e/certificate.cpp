#include "tests/e2e/certificate.h"

#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

namespace facet::test {
namespace {

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using Cert = std::unique_ptr<X509, Freer<X509_free>>;
using Bio = std::unique_ptr<BIO, Freer<BIO_free_all>>;

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<size_t>(size)};
}

std::string key_text(EVP_PKEY* key, const EVP_CIPHER* cipher) {
  const Bio bio(BIO_new(BIO_s_mem()));
  char passphrase[] = "sesame";
  EXPECT_TRUE(PEM_write_bio_PKCS8PrivateKey(bio.get(), key, cipher,
                                            cipher != nullptr ? passphrase : nullptr,
                                            cipher != nullptr ? 6 : 0, nullptr, nullptr));
  return text_of(bio.get());
}

Cert self_signed(EVP_PKEY* key) {
  Cert cert(X509_new());
  X509_set_version(cert.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(cert.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(cert.get()), 3600);
  X509_set_pubkey(cert.get(), key);
  X509_NAME* name = X509_get_subject_name(cert.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
  X509_set_issuer_name(cert.get(), name);
  X509_EXTENSION* names =
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "DNS:localhost");
  X509_add_ext(cert.get(), names, -1);
  X509_EXTENSION_free(names);
  EXPECT_GT(X509_sign(cert.get(), key, EVP_sha256()), 0);
  return cert;
}

}  // namespace

Certificate make_certificate() {
  const Key key(EVP_EC_gen("P-256"));
  const Cert cert = self_signed(key.get());
  const Bio bio(BIO_new(BIO_s_mem()));
  EXPECT_TRUE(PEM_write_bio_X509(bio.get(), cert.get()));
  return {text_of(bio.get()), key_text(key.get(), nullptr), key_text(key.get(), EVP_aes_256_cbc())};
}

struct TlsWire::Impl {
  std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>> context{SSL_CTX_new(TLS_client_method())};
  Bio bio;
  SSL* ssl = nullptr;  // owned by bio
};

TlsWire::TlsWire(int port, const std::string& certificate) : impl_(std::make_unique<Impl>()) {
  const Bio text(BIO_new_mem_buf(certificate.data(), static_cast<int>(certificate.size())));
  const Cert cert(PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr));
  X509_STORE_add_cert(SSL_CTX_get_cert_store(impl_->context.get()), cert.get());
  SSL_CTX_set_verify(impl_->context.get(), SSL_VERIFY_PEER, nullptr);
  impl_->bio.reset(BIO_new_ssl_connect(impl_->context.get()));
  BIO_get_ssl(impl_->bio.get(), &impl_->ssl);
  SSL_set1_host(impl_->ssl, "localhost");
  const std::string address = "127.0.0.1:" + std::to_string(port);
  BIO_set_conn_hostname(impl_->bio.get(), address.c_str());
  trusted_ =
      BIO_do_connect(impl_->bio.get()) == 1 && SSL_get_verify_result(impl_->ssl) == X509_V_OK;
}

TlsWire::~TlsWire() = default;

void TlsWire::send(std::string_view bytes) {
  EXPECT_EQ(BIO_write(impl_->bio.get(), bytes.data(), static_cast<int>(bytes.size())),
            static_cast<int>(bytes.size()));
}

std::string TlsWire::read_all() {
  std::string all;
  char buffer[16384];
  int got = 0;
  while ((got = SSL_read(impl_->ssl, buffer, sizeof buffer)) > 0)
    all.append(buffer, static_cast<size_t>(got));
  ended_properly_ = SSL_get_error(impl_->ssl, got) == SSL_ERROR_ZERO_RETURN;
  return all;
}

}  // namespace facet::test
