// Preloaded into user-mode-linux (uml.py). That of Debian 12 keeps 2696 octets of a process's extended processor state. A processor with AMX has
// more, and then Linux takes nothing but the whole: "ptrace set fp regs failed". So the rest is given back as it is.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static char whole[65536];  // not on the stack: the guest's kernel has small ones

long ptrace(enum __ptrace_request request, ...) {
  static long (*next)(enum __ptrace_request, ...);
  va_list list;
  va_start(list, request);
  const int process = va_arg(list, int);
  void *const address = va_arg(list, void *);
  void *data = va_arg(list, void *);
  va_end(list);
  if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "ptrace");
  struct iovec all = {whole, sizeof whole};
  if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE && next(PTRACE_GETREGSET, process, address, &all) == 0) {
    const struct iovec *given = data;
    memcpy(whole, given->iov_base, given->iov_len < all.iov_len ? given->iov_len : all.iov_len);
    data = &all;
  }
  return next(request, process, address, data);
}
