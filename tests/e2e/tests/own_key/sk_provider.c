/* A FIDO authenticator in software, as a middleware of OpenSSH's (PROTOCOL.u2f, sk-api.h of version 10): Ed25519 only. The key handle is the seed. Each touch is noted in /tmp/touches.UID; it touches itself. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sk_enroll_response {
	uint8_t flags;
	uint8_t *public_key; size_t public_key_len;
	uint8_t *key_handle; size_t key_handle_len;
	uint8_t *signature; size_t signature_len;
	uint8_t *attestation_cert; size_t attestation_cert_len;
	uint8_t *authdata; size_t authdata_len;
};
struct sk_sign_response {
	uint8_t flags;
	uint32_t counter;
	uint8_t *sig_r; size_t sig_r_len;
	uint8_t *sig_s; size_t sig_s_len;
};
struct sk_option;
struct sk_resident_key;

/* libcrypto's, declared here: its headers need not be installed. */
typedef struct evp_pkey_st EVP_PKEY;
typedef struct evp_md_ctx_st EVP_MD_CTX;
EVP_PKEY *EVP_PKEY_new_raw_private_key(int type, void *engine, const unsigned char *key, size_t len);
int EVP_PKEY_get_raw_public_key(const EVP_PKEY *pkey, unsigned char *pub, size_t *len);
EVP_MD_CTX *EVP_MD_CTX_new(void);
int EVP_DigestSignInit(EVP_MD_CTX *ctx, void **pctx, const void *type, void *engine, EVP_PKEY *pkey);
int EVP_DigestSign(EVP_MD_CTX *ctx, unsigned char *sig, size_t *siglen, const unsigned char *data, size_t len);
unsigned char *SHA256(const unsigned char *d, size_t n, unsigned char *md);
int RAND_bytes(unsigned char *buf, int num);
#define ED25519 1087

static uint8_t *copy(const void *from, size_t n) { return memcpy(malloc(n), from, n); }

uint32_t sk_api_version(void) { return 0x000a0000; }

int sk_enroll(uint32_t alg, const uint8_t *challenge, size_t challenge_len, const char *application, uint8_t flags, const char *pin,
    struct sk_option **options, struct sk_enroll_response **out)
{
	uint8_t seed[32], public[32];
	size_t n = sizeof public;
	struct sk_enroll_response *r = calloc(1, sizeof *r);
	if (alg != 1)
		return -2;
	RAND_bytes(seed, sizeof seed);
	EVP_PKEY_get_raw_public_key(EVP_PKEY_new_raw_private_key(ED25519, NULL, seed, sizeof seed), public, &n);
	r->flags = flags;
	r->public_key = copy(public, r->public_key_len = sizeof public);
	r->key_handle = copy(seed, r->key_handle_len = sizeof seed);
	r->signature = copy("none", r->signature_len = 4);
	r->attestation_cert = copy("none", r->attestation_cert_len = 4);
	*out = r;
	return 0;
}

int sk_sign(uint32_t alg, const uint8_t *data, size_t data_len, const char *application, const uint8_t *key_handle, size_t key_handle_len,
    uint8_t flags, const char *pin, struct sk_option **options, struct sk_sign_response **out)
{
	uint8_t message[32 + 1 + 4 + 32], signature[64];
	size_t n = sizeof signature;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	struct sk_sign_response *r = calloc(1, sizeof *r);
	char name[64];
	FILE *touches;
	if (alg != 1 || key_handle_len != 32)
		return -2;
	SHA256((const uint8_t *)application, strlen(application), message);
	message[32] = flags;
	memcpy(message + 33, "\0\0\0\1", 4);
	SHA256(data, data_len, message + 37);
	EVP_DigestSignInit(ctx, NULL, NULL, NULL, EVP_PKEY_new_raw_private_key(ED25519, NULL, key_handle, 32));
	if (EVP_DigestSign(ctx, signature, &n, message, sizeof message) != 1)
		return -1;
	snprintf(name, sizeof name, "/tmp/touches.%u", (unsigned)getuid());
	if ((touches = fopen(name, "a")) != NULL) {
		fputs("touched\n", touches);
		fclose(touches);
	}
	r->flags = flags;
	r->counter = 1;
	r->sig_r = copy(signature, r->sig_r_len = sizeof signature);
	*out = r;
	return 0;
}

int sk_load_resident_keys(const char *pin, struct sk_option **options, struct sk_resident_key ***keys, size_t *n)
{
	return -2;
}
