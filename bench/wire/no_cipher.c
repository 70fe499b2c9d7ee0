// Preloaded into processes that speak CURVE to one another, it takes the place of libsodium's
// cipher for messages: they are copied and neither encrypted nor authenticated. So bench/throughput
// shows what the cipher costs, without a switch in the product that would turn it off.
#include <string.h>

enum { kKeyStream = 32, kTag = 16 };  // Zero bytes before a message in NaCl's older interface.

int crypto_box_afternm(unsigned char* c, const unsigned char* m, unsigned long long size,
                       const unsigned char* nonce, const unsigned char* key) {
  (void)nonce, (void)key;
  memmove(c, m, size);
  return 0;
}

int crypto_box_open_afternm(unsigned char* m, const unsigned char* c, unsigned long long size,
                            const unsigned char* nonce, const unsigned char* key) {
  (void)nonce, (void)key;
  memmove(m, c, size);
  memset(m, 0, size < kKeyStream ? size : kKeyStream);
  return 0;
}

int crypto_box_easy_afternm(unsigned char* c, const unsigned char* m, unsigned long long size,
                            const unsigned char* nonce, const unsigned char* key) {
  (void)nonce, (void)key;
  memmove(c + kTag, m, size);
  memset(c, 0, kTag);
  return 0;
}

int crypto_box_open_easy_afternm(unsigned char* m, const unsigned char* c, unsigned long long size,
                                 const unsigned char* nonce, const unsigned char* key) {
  (void)nonce, (void)key;
  if (size < kTag) return -1;
  memmove(m, c + kTag, size - kTag);
  return 0;
}
