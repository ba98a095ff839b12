#include <cstdio>

int main() {
  std::puts("causeway " CAUSEWAY_VERSION);
  return 0;
}
