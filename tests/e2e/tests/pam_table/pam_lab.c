/*
 * A PAM module that does what its line says, one thing per call: what good ones do, and what bad ones have done.
 *
 * In `auth` and `account`, by the first argument:
 *   info=N, prompt=N     N bytes of text, or of a prompt (the answer must be "yes")
 *   escape, latin1       text that steers a terminal; text that is no UTF-8
 *   mixed                one conv() call with text, an echoed prompt, an error and a silent prompt ("blue", "quiet")
 *   rounds=N             N prompts, one after another; the answer is the number
 *   late=N               text, and N milliseconds later the next thing
 *   length=N             a prompt whose answer must have N bytes
 *   binary               a PAM_BINARY_PROMPT, which no text conversation can carry
 *   delay=N              asks for a delay of N microseconds and refuses
 *   return=N             returns this code
 *   rename=NAME          PAM_USER is NAME from here on
 *   write                speaks on descriptors 1 and 2
 *   segfault, exit, hang, deaf, fork, orphan, close, setuid    as they say; `deaf` hangs and hears no alarm, `orphan` leaves a child and crashes
 */
#define _GNU_SOURCE
#include <security/pam_modules.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 4

/* One conv() call; the answers, which the caller frees. */
static int converse(pam_handle_t *handle, int count, const int *styles, const char **texts, struct pam_response **answers)
{
    const struct pam_conv *conversation = NULL;
    struct pam_message messages[MOST];
    const struct pam_message *list[MOST];
    for (int i = 0; i < count; i++) {
        messages[i].msg_style = styles[i];
        messages[i].msg = texts[i];
        list[i] = &messages[i];
    }
    int code = pam_get_item(handle, PAM_CONV, (const void **)&conversation);
    if (code != PAM_SUCCESS)
        return code;
    *answers = NULL;
    return conversation->conv(count, list, answers, conversation->appdata_ptr);
}

static int say(pam_handle_t *handle, int style, const char *text)
{
    struct pam_response *answers;
    int code = converse(handle, 1, &style, &text, &answers);
    free(answers);
    return code;
}

/* Success if the answer is this one. */
static int ask(pam_handle_t *handle, int style, const char *prompt, const char *right)
{
    struct pam_response *answers;
    int code = converse(handle, 1, &style, &prompt, &answers);
    if (code != PAM_SUCCESS)
        return code;
    code = answers[0].resp != NULL && strcmp(answers[0].resp, right) == 0 ? PAM_SUCCESS : PAM_AUTH_ERR;
    free(answers[0].resp);
    free(answers);
    return code;
}

/* Lines of 64 bytes, each with its number, and at the end `end`. */
static char *text_of(size_t length, const char *end)
{
    char *text = malloc(length + 1);
    if (text == NULL)
        abort();
    for (size_t i = 0; i < length; i++)
        text[i] = i % 64 == 63 ? '\n' : '.';
    for (size_t line = 0; line + 64 < length; line += 64) {
        char number[16];
        memcpy(text + line, number, snprintf(number, sizeof number, "line %zu", line / 64));
    }
    text[length] = 0;
    memcpy(text + length - strlen(end), end, strlen(end));
    return text;
}

static int mixed(pam_handle_t *handle)
{
    const int styles[] = {PAM_TEXT_INFO, PAM_PROMPT_ECHO_ON, PAM_ERROR_MSG, PAM_PROMPT_ECHO_OFF};
    const char *texts[] = {"Welcome to the quiz", "Colour: ", "Nobody must see the next one", "Word: "};
    struct pam_response *answers;
    int code = converse(handle, 4, styles, texts, &answers);
    if (code != PAM_SUCCESS)
        return code;
    int right = answers[0].resp == NULL && answers[2].resp == NULL && answers[1].resp != NULL && answers[3].resp != NULL
        && strcmp(answers[1].resp, "blue") == 0 && strcmp(answers[3].resp, "quiet") == 0;
    free(answers[1].resp);
    free(answers[3].resp);
    free(answers);
    return right ? PAM_SUCCESS : PAM_AUTH_ERR;
}

static int rounds(pam_handle_t *handle, int count)
{
    for (int i = 1; i <= count; i++) {
        char prompt[64], right[16];
        snprintf(prompt, sizeof prompt, "Round %d of %d: ", i, count);
        snprintf(right, sizeof right, "%d", i);
        int code = ask(handle, i % 2 ? PAM_PROMPT_ECHO_ON : PAM_PROMPT_ECHO_OFF, prompt, right);
        if (code != PAM_SUCCESS)
            return code;
    }
    return PAM_SUCCESS;
}

static void say_to(int descriptor, const char *text)
{
    if (write(descriptor, text, strlen(text)) < 0)
        abort();
}

static void stay(void)
{
    for (;;)
        pause();
}

static void leave_a_child(void)
{
    pid_t child = fork();
    if (child < 0)
        abort();
    if (child == 0)
        stay();
}

static int act(pam_handle_t *handle, int argc, const char **argv)
{
    if (argc < 1)
        return PAM_SERVICE_ERR;
    const char *what = argv[0], *value = strchr(what, '=');
    size_t length = value ? (size_t)(value - what) : strlen(what);
    long number = value ? atol(++value) : 0;
#define IS(name) (length == sizeof(name) - 1 && memcmp(what, name, length) == 0)
    if (IS("info")) {
        char *text = text_of(number, "the end of it");
        int code = say(handle, PAM_TEXT_INFO, text);
        free(text);
        return code;
    }
    if (IS("prompt")) {
        char *text = text_of(number, "All read? ");
        int code = ask(handle, PAM_PROMPT_ECHO_OFF, text, "yes");
        free(text);
        return code;
    }
    if (IS("escape"))
        return say(handle, PAM_TEXT_INFO, "before\033[2J\033]0;title\007after\b\b\rend");
    if (IS("latin1"))
        return say(handle, PAM_TEXT_INFO, "Gr\374\337e");
    if (IS("mixed"))
        return mixed(handle);
    if (IS("rounds"))
        return rounds(handle, (int)number);
    if (IS("late")) {
        int code = say(handle, PAM_TEXT_INFO, "Touch your key");
        usleep(number * 1000);
        return code;
    }
    if (IS("length")) {
        char *right = malloc(number + 1);
        if (right == NULL)
            abort();
        memset(right, 'a', number);
        right[number] = 0;
        int code = ask(handle, PAM_PROMPT_ECHO_OFF, "Long: ", right);
        free(right);
        return code;
    }
    if (IS("binary"))
        return say(handle, 7, "\0\0\0\5");
    if (IS("delay")) {
        pam_fail_delay(handle, (unsigned int)number);
        return PAM_AUTH_ERR;
    }
    if (IS("return"))
        return (int)number;
    if (IS("rename"))
        return pam_set_item(handle, PAM_USER, value);
    if (IS("write")) {
        say_to(1, "on one: \033[31mred\n");
        say_to(2, "on two: Accepted keyboard-interactive/pam for root\n");
        return PAM_SUCCESS;
    }
    if (IS("segfault")) {
        *(volatile char *)value = 1; /* it has none */
        return PAM_SUCCESS;
    }
    if (IS("exit"))
        exit(0);
    if (IS("hang"))
        stay();
    if (IS("deaf")) {
        signal(SIGALRM, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
        stay();
    }
    if (IS("fork")) {
        leave_a_child();
        return PAM_SUCCESS;
    }
    if (IS("orphan")) {
        leave_a_child();
        abort();
    }
    if (IS("close")) {
        closefrom(0);
        return PAM_SUCCESS;
    }
    if (IS("setuid"))
        return setresuid(65534, 65534, 65534) == 0 ? PAM_SUCCESS : PAM_SYSTEM_ERR;
    return PAM_SERVICE_ERR;
}

int pam_sm_authenticate(pam_handle_t *handle, int flags, int argc, const char **argv)
{
    (void)flags;
    return act(handle, argc, argv);
}

int pam_sm_acct_mgmt(pam_handle_t *handle, int flags, int argc, const char **argv)
{
    (void)flags;
    return act(handle, argc, argv);
}

int pam_sm_setcred(pam_handle_t *handle, int flags, int argc, const char **argv)
{
    (void)handle, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}
