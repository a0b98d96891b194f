/* One session hook as sshd runs it (PAM_SERVICE sshd, root, SSH_AUTH_INFO_0 in PAM's environment), opened and closed, and nothing else: what is timed is the module.
 *
 *   pam_session CONFDIR USER FILE [check]
 *
 * CONFDIR holds the service's file `sshd` (pam_start_confdir(3)), FILE what sshd would say of the login. Set-uid root on a scratch host. Exit status: 0 if PAM said yes, 1 if not, 2 for a wrong
 * command line, 3 if with `check` there is no record of this process while the session is open.
 */
#include <glob.h>
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int say_nothing(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
	(void)messages;
	(void)data;
	*responses = calloc((size_t)count, sizeof **responses);
	return *responses ? PAM_SUCCESS : PAM_CONV_ERR;
}

static int has_record(void)
{
	char pattern[128];
	glob_t found;

	snprintf(pattern, sizeof pattern, "/run/ussh-hostd/sessions/%d-*.json", (int)getpid());
	return glob(pattern, 0, NULL, &found) == 0;
}

int main(int argc, char **argv)
{
	struct pam_conv conversation = { say_nothing, NULL };
	pam_handle_t *handle = NULL;
	char info[8192] = "SSH_AUTH_INFO_0=";
	FILE *file = argc < 4 || argc > 5 ? NULL : fopen(argv[3], "re");
	int result, checked = 1;

	if (file == NULL || fgets(info + strlen(info), (int)(sizeof info - strlen(info)), file) == NULL || setuid(0) != 0)
		return 2;
	fclose(file);
	if (pam_start_confdir("sshd", argv[2], &conversation, argv[1], &handle) != PAM_SUCCESS)
		return 1;
	result = pam_putenv(handle, info);
	if (result == PAM_SUCCESS)
		result = pam_set_item(handle, PAM_RHOST, "192.0.2.1");
	if (result == PAM_SUCCESS)
		result = pam_open_session(handle, 0);
	if (result == PAM_SUCCESS) {
		checked = argc == 4 || (strcmp(argv[4], "check") == 0 && has_record());
		result = pam_close_session(handle, 0);
	}
	pam_end(handle, result);
	return result != PAM_SUCCESS ? 1 : checked ? 0 : 3;
}
