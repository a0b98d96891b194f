/* A module with mistakes, each made where its line says so: what AddressSanitizer must report, or the test that finds nothing proves nothing. */
#define PAM_SM_AUTH
#include <security/pam_modules.h>
#include <stdlib.h>
#include <string.h>

int pam_sm_authenticate(pam_handle_t *handle, int flags, int argc, const char **argv)
{
    (void)handle, (void)flags;
    char *volatile memory = malloc(16);
    if (!memory || argc != 1)
        return PAM_BUF_ERR;
    int code = PAM_AUTH_ERR;
    if (!strcmp(argv[0], "leak"))
        return code;
    if (!strcmp(argv[0], "overflow"))
        memory[16] = 1;
    free(memory);
    if (!strcmp(argv[0], "use-after-free"))
        memory[0] = 1;
    if (!strcmp(argv[0], "double-free"))
        free(memory);
    return code;
}

int pam_sm_setcred(pam_handle_t *handle, int flags, int argc, const char **argv)
{
    (void)handle, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}
