/* One PAM authentication as sudo makes it (real uid the caller's, effective uid 0, the caller's account looked up before, as sudo, su and doas all do), and nothing else: what is timed is
 * the module.
 *
 *   pam_run SERVICE USER SOCKET [rss]
 *
 * Set-uid root on a scratch host. Exit status: 0 if PAM said yes, 1 if not, 2 for a wrong command line. With `rss` it prints its peak resident set, in KiB.
 */
#include <pwd.h>
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

/* VmHWM: what getrusage(2) gives outlives an exec, and would be that of the program before us. */
static void say_peak(void)
{
	char line[256];
	long kib = -1;
	FILE *status = fopen("/proc/self/status", "re");

	while (status != NULL && fgets(line, sizeof line, status) != NULL)
		sscanf(line, "VmHWM: %ld", &kib);
	printf("%ld\n", kib);
}

int main(int argc, char **argv)
{
	struct pam_conv conversation = { say_nothing, NULL };
	pam_handle_t *handle = NULL;
	struct passwd *caller = getpwuid(getuid());
	int result;

	if (caller == NULL || argc < 4 || argc > 5 || setenv("SSH_AUTH_SOCK", argv[3], 1) != 0)
		return 2;
	if (pam_start(argv[1], argv[2], &conversation, &handle) != PAM_SUCCESS)
		return 1;
	result = pam_set_item(handle, PAM_RUSER, caller->pw_name);
	if (result == PAM_SUCCESS)
		result = pam_authenticate(handle, 0);
	pam_end(handle, result);
	if (argc == 5 && strcmp(argv[4], "rss") == 0)
		say_peak();
	return result == PAM_SUCCESS ? 0 : 1;
}
