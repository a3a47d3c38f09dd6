// The operators of the library, but that they may be told to have no memory. They stand apart from those who call them, so that no compiler sees `new`
// and `free` beside each other.
#include "memory.hpp"

#include <cstdlib>
#include <new>

void* operator new(std::size_t size) {
  void* memory = size <= groupvpn::test::largest_allocation ? std::malloc(size) : nullptr;
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*size*/) noexcept { std::free(memory); }
