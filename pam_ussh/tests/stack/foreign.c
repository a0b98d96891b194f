/* A module that keeps something of its own under the name that pam_ussh uses: names are shared by all modules of a handle. */
#include <security/pam_modules.h>
#include <stddef.h>

int pam_sm_authenticate(pam_handle_t *handle, int flags, int argc, const char **argv)
{
    (void)flags, (void)argc, (void)argv;
    return pam_set_data(handle, "pam_ussh:proof", (void *)0x10, NULL);
}

int pam_sm_setcred(pam_handle_t *handle, int flags, int argc, const char **argv)
{
    (void)handle, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}
