/*
 * Loaded into a host that root starts, behind AddressSanitizer's runtime: makes of it what a set-uid program of root's is when REAL_UID starts it. Into such a program itself the dynamic
 * linker preloads nothing (ld.so(8), "secure-execution mode").
 *
 * With KEEP_LIBRARIES no library is unloaded: what was allocated in one is then told by its name and line.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int dlclose(void *library)
{
    int (*unload)(void *) = (int (*)(void *))dlsym(RTLD_NEXT, "dlclose");
    return getenv("KEEP_LIBRARIES") ? 0 : unload(library);
}

__attribute__((constructor)) static void take_on(void)
{
    const char *who = getenv("REAL_UID");
    uid_t real = who ? (uid_t)atol(who) : 0;
    if (!who || setgroups(0, NULL) || setresgid(real, real, real) || setresuid(real, 0, 0))
        _exit(96);
    /* fs.suid_dumpable is 0 by default; root's own programs can be dumped. */
    if (real && prctl(PR_SET_DUMPABLE, 0))
        _exit(96);
    unsetenv("REAL_UID");
    unsetenv("LD_PRELOAD");
}
