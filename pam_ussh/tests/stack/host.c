/*
 * A host of PAM modules that looks at itself: it calls PAM as sudo would, and reports whether anything of the process is another than before.
 *
 * host REPORT SETTINGS SERVICE USER OPERATION...
 *
 * REPORT: the file that gets the report. SETTINGS: words with commas between them, `-` for none:
 *   rounds=N     pam_start to pam_end N times, with the resident set reported after half of them and at the end,
 *                and how many bytes more are allocated by then, where a sanitizer counts them
 *   varying      each round may have another answer, as long as it is a refusal
 *   ruser=root   PAM_RUSER is root
 *   info         SSH_AUTH_INFO_0 of this process's environment is in PAM's
 *   deaf         the conversation fails
 *   closed       descriptors 0 to 2 are closed
 *   files=N      RLIMIT_NOFILE while PAM works: N more than are open
 *   size=N       RLIMIT_FSIZE while PAM works, bytes
 *   memory=N     RLIMIT_AS while PAM works: N bytes more than are mapped
 *   ignore, handler, block: what SIGALRM, SIGPIPE, SIGCHLD, SIGUSR1, SIGXFSZ and SIGTERM find here
 *   storm        SIGALRM every 500 microseconds while PAM works (with handler)
 *   told         what is said to the user is reported
 *   again=PATH   (the last one) once more in the same process, with SSH_AUTH_SOCK=PATH; the largest resident set until then is reported as well
 * The limits hold from pam_start on: libpam has the modules then.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <locale.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const int SIGNALS[] = {SIGALRM, SIGPIPE, SIGCHLD, SIGUSR1, SIGXFSZ, SIGTERM};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static volatile sig_atomic_t delivered[NSIG];
static int report = -1;
static char standard[3][64];
static int tells;

static void count(int signal) { delivered[signal]++; }

static void say(const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length > (int)sizeof line - 1)
        length = sizeof line - 1;
    if (write(report, line, length) != length)
        _exit(99);
}

static const char *setting(const char *settings, const char *name)
{
    const char *found = strstr(settings, name);
    return found ? found + strlen(name) : NULL;
}

static long number(const char *settings, const char *name, long otherwise)
{
    const char *found = setting(settings, name);
    return found ? atol(found) : otherwise;
}

/* What a descriptor leads to, or nothing. */
static void link_of(int descriptor, char *target, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(path, target, size - 1);
    target[length < 0 ? 0 : length] = 0;
}

static int conversation(int messages, const struct pam_message **message, struct pam_response **response, void *data)
{
    for (int i = 0; tells && i < messages; i++)
        say("told %d %s\n", message[i]->msg_style, message[i]->msg);
    /* What would print go to now? */
    for (int descriptor = 0; descriptor < 3; descriptor++)
        link_of(descriptor, standard[descriptor], sizeof standard[descriptor]);
    if (setting(data, "deaf"))
        return PAM_CONV_ERR;
    *response = calloc(messages, sizeof **response);
    return *response ? PAM_SUCCESS : PAM_BUF_ERR;
}

static size_t put(char *state, size_t at, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(state + at, size - at, format, arguments);
    va_end(arguments);
    return at + length < size ? at + length : size - 1;
}

/* Lines of /proc/self/status that a call must not change. */
static const char *STATUS[] = {"Umask:", "Uid:", "Gid:", "Groups:", "Threads:", "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:",
                               "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:"};

/* Everything of the process that has a name, as text. */
static void look(char *state, size_t size)
{
    size_t at = 0;
    char buffer[4096], target[256];
    FILE *status = fopen("/proc/self/status", "re");
    while (status && fgets(buffer, sizeof buffer, status))
        for (size_t i = 0; i < COUNT(STATUS); i++)
            if (!strncmp(buffer, STATUS[i], strlen(STATUS[i])))
                at = put(state, at, size, "%s", buffer);
    if (status)
        fclose(status);
    for (int descriptor = 0; descriptor < 1024; descriptor++) {
        int flags = fcntl(descriptor, F_GETFD);
        if (flags == -1)
            continue;
        link_of(descriptor, target, sizeof target);
        at = put(state, at, size, "fd %d %s %d %d\n", descriptor, target, flags, fcntl(descriptor, F_GETFL));
    }
    for (int signal = 1; signal < NSIG; signal++) {
        struct sigaction action;
        if (sigaction(signal, NULL, &action))
            continue;
        at = put(state, at, size, "signal %d %p %d", signal, (void *)action.sa_handler, action.sa_flags);
        for (int masked = 1; masked < NSIG; masked++)
            if (sigismember(&action.sa_mask, masked) == 1)
                at = put(state, at, size, " %d", masked);
        at = put(state, at, size, "\n");
    }
    stack_t stack;
    sigaltstack(NULL, &stack);
    at = put(state, at, size, "signal stack %p %d %zu\n", stack.ss_sp, stack.ss_flags, stack.ss_size);
    for (char **variable = environ; variable && *variable; variable++)
        at = put(state, at, size, "environment %p %s\n", (void *)*variable, *variable);
    at = put(state, at, size, "locale %s\n", setlocale(LC_ALL, NULL));
    at = put(state, at, size, "folder %s\n", getcwd(buffer, sizeof buffer) ? buffer : "?");
    int death = 0;
    prctl(PR_GET_PDEATHSIG, &death);
    prctl(PR_GET_NAME, buffer);
    at = put(state, at, size, "dumpable %d death %d name %s keepcaps %d\n", prctl(PR_GET_DUMPABLE), death, buffer, prctl(PR_GET_KEEPCAPS));
    at = put(state, at, size, "session %d group %d nice %d\n", getsid(0), getpgrp(), getpriority(PRIO_PROCESS, 0));
    for (int which = 0; which < RLIM_NLIMITS; which++) {
        struct rlimit limit;
        getrlimit(which, &limit);
        at = put(state, at, size, "limit %d %llu %llu\n", which, (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
    }
    for (int which = 0; which < 3; which++) {
        struct itimerval timer;
        getitimer(which, &timer);
        at = put(state, at, size, "timer %d %d\n", which, timer.it_value.tv_sec || timer.it_value.tv_usec);
    }
}

static void report_changes(const char *before, const char *after)
{
    /* Lines that are in one only. */
    const char *texts[2][3] = {{"gone", before, after}, {"new", after, before}};
    for (int i = 0; i < 2; i++) {
        const char *line = texts[i][1];
        while (*line) {
            size_t length = strcspn(line, "\n");
            char whole[600];
            snprintf(whole, sizeof whole, "%.*s\n", (int)length, line);
            if (!strstr(texts[i][2], whole))
                say("%s %s", texts[i][0], whole);
            line += length + (line[length] == '\n');
        }
    }
}

static int is_mapped(const char *name)
{
    char line[1024];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof line, maps))
        found |= strstr(line, name) != NULL;
    if (maps)
        fclose(maps);
    return found;
}

static long pages(int field)
{
    long values[2] = {0, 0};
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm) {
        if (fscanf(statm, "%ld %ld", &values[0], &values[1]) != 2)
            values[field] = -1;
        fclose(statm);
    }
    return values[field];
}

/* Bytes on the heap, where a sanitizer counts them; -1: nobody does. */
static long allocated(void)
{
    size_t (*count)(void) = (size_t (*)(void))dlsym(RTLD_DEFAULT, "__sanitizer_get_current_allocated_bytes");
    return count ? (long)count() : -1;
}

/* KiB. */
static long peak(void)
{
    char line[256];
    long found = -1;
    FILE *status = fopen("/proc/self/status", "re");
    while (status && fgets(line, sizeof line, status))
        sscanf(line, "VmHWM: %ld", &found);
    if (status)
        fclose(status);
    return found;
}

static void limit(int which, rlim_t soft, struct rlimit *before)
{
    getrlimit(which, before);
    struct rlimit now = *before;
    now.rlim_cur = soft < before->rlim_max ? soft : before->rlim_max;
    setrlimit(which, &now);
}

static int run(const char *settings, const char *service, const char *user, char **operations)
{
    struct pam_conv conv = {conversation, (void *)settings};
    pam_handle_t *handle = NULL;
    int code = pam_start(service, user, &conv, &handle);
    if (code != PAM_SUCCESS)
        return code;
    if (setting(settings, "ruser=root"))
        pam_set_item(handle, PAM_RUSER, "root");
    const char *info = setting(settings, "info") ? getenv("SSH_AUTH_INFO_0") : NULL;
    if (info) {
        char line[8192];
        if (snprintf(line, sizeof line, "SSH_AUTH_INFO_0=%s", info) >= (int)sizeof line)
            _exit(95);
        pam_putenv(handle, line);
    }

    struct rlimit files, size, memory;
    const char *more;
    if ((more = setting(settings, "files="))) {
        int lowest = dup(report);
        close(lowest);
        limit(RLIMIT_NOFILE, lowest + atol(more), &files);
    }
    if ((more = setting(settings, "size=")))
        limit(RLIMIT_FSIZE, atol(more), &size);
    if ((more = setting(settings, "memory=")))
        limit(RLIMIT_AS, (rlim_t)pages(0) * 4096 + atol(more), &memory);
    if (setting(settings, "storm")) {
        struct itimerval often = {{0, 500}, {0, 500}};
        setitimer(ITIMER_REAL, &often, NULL);
    }

    for (; *operations && code == PAM_SUCCESS; operations++) {
        if (!strcmp(*operations, "authenticate"))
            code = pam_authenticate(handle, 0);
        else if (!strcmp(*operations, "acct_mgmt"))
            code = pam_acct_mgmt(handle, 0);
        else if (!strcmp(*operations, "open_session"))
            code = pam_open_session(handle, 0);
        else
            code = pam_close_session(handle, 0);
    }

    if (setting(settings, "storm")) {
        struct itimerval never = {{0, 0}, {0, 0}};
        setitimer(ITIMER_REAL, &never, NULL);
    }
    if (setting(settings, "memory="))
        setrlimit(RLIMIT_AS, &memory);
    if (setting(settings, "size="))
        setrlimit(RLIMIT_FSIZE, &size);
    if (setting(settings, "files="))
        setrlimit(RLIMIT_NOFILE, &files);
    pam_end(handle, code);
    return code;
}

int main(int argc, char **argv)
{
    static char before[65536], after[65536];
    if (argc < 6)
        return 98;
    const char *settings = argv[2];
    tells = setting(settings, "told") != NULL;
    setlocale(LC_ALL, "C.UTF-8");
    umask(027);
    /* Out of the way of 0 to 2, and of the lowest free number. */
    int opened = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    report = fcntl(opened, F_DUPFD_CLOEXEC, 200);
    close(opened);
    if (report < 0)
        return 97;
    if (setting(settings, "closed"))
        for (int descriptor = 0; descriptor < 3; descriptor++)
            close(descriptor);

    sigset_t ours;
    sigemptyset(&ours);
    for (size_t i = 0; i < COUNT(SIGNALS); i++) {
        struct sigaction action = {.sa_handler = SIG_DFL};
        if (setting(settings, "ignore"))
            action.sa_handler = SIG_IGN;
        if (setting(settings, "handler"))
            action.sa_handler = count;
        sigaction(SIGNALS[i], &action, NULL);
        sigaddset(&ours, SIGNALS[i]);
    }
    if (setting(settings, "block"))
        sigprocmask(SIG_BLOCK, &ours, NULL);

    look(before, sizeof before);
    long rounds = number(settings, "rounds=", 1), early = 0, late = 0, heap = 0;
    int code = PAM_SUCCESS;
    for (long round = 1; round <= rounds; round++) {
        int now = run(settings, argv[3], argv[4], argv + 5);
        if (setting(settings, "varying") ? now == PAM_SUCCESS : round > 1 && now != code)
            say("round %ld: code %d after %d\n", round, now, code);
        code = now;
        if (round == (rounds + 1) / 2) {
            early = pages(1);
            heap = allocated();
        }
    }
    late = pages(1);
    long heap_late = allocated();
    look(after, sizeof after);

    report_changes(before, after);
    const char *again = setting(settings, "again=");
    if (again) {
        say("peak %ld\n", peak());
        setenv("SSH_AUTH_SOCK", again, 1);
        look(before, sizeof before);
        say("again %d\n", run(settings, argv[3], argv[4], argv + 5));
        look(after, sizeof after);
        report_changes(before, after);
    }
    if (waitpid(-1, NULL, WNOHANG | __WALL) != -1 || errno != ECHILD)
        say("new child\n");
    if (delivered[SIGCHLD] || delivered[SIGPIPE] || delivered[SIGXFSZ])
        say("new signals: %d SIGCHLD, %d SIGPIPE, %d SIGXFSZ\n", (int)delivered[SIGCHLD], (int)delivered[SIGPIPE], (int)delivered[SIGXFSZ]);
    for (int descriptor = 0; descriptor < 3; descriptor++)
        if (*standard[descriptor])
            say("standard %d %s\n", descriptor, standard[descriptor]);
    say("loaded %d\n", is_mapped("pam_ussh"));
    if (setting(settings, "storm"))
        say("storm %d\n", delivered[SIGALRM] > 0);
    say("pages %ld %ld\n", early, late);
    if (heap_late >= 0)
        say("heap %ld\n", heap_late - heap);
    say("code %d\n", code);
    return code == PAM_SUCCESS ? 0 : 1;
}
