// Integers in the byte order of our wire formats, whatever the machine's.
#ifndef CAUSEWAY_NET_LITTLE_ENDIAN_H_
#define CAUSEWAY_NET_LITTLE_ENDIAN_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace causeway {

// Writes sizeof(T) bytes at `to`.
template <typename T>
void StoreLittleEndian(T value, char* to) {
  const auto bits = static_cast<std::make_unsigned_t<T>>(value);
  for (size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<char>(bits >> (8 * i));
}

// Reads sizeof(T) bytes at `from`.
template <typename T>
T LoadLittleEndian(const char* from) {
  std::make_unsigned_t<T> bits = 0;
  for (size_t i = 0; i < sizeof(T); ++i) bits |= static_cast<decltype(bits)>(static_cast<uint8_t>(from[i])) << (8 * i);
  return static_cast<T>(bits);
}

}  // namespace causeway

#endif  // CAUSEWAY_NET_LITTLE_ENDIAN_H_
