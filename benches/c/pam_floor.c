/* What no module that asks an agent can do without: connect, list, have one signature made by the first certificate, or (argument `plain`) by the first key that is none. It checks nothing,
   and lets everybody in: for scratch hosts only. */
#include <security/pam_modules.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { LARGEST = 256 * 1024, LIST = 11, LISTED = 12, SIGN = 13, SIGNED = 14, RSA_SHA2_512 = 4 };

static void put_u32(unsigned char *to, uint32_t value)
{
	to[0] = (unsigned char)(value >> 24);
	to[1] = (unsigned char)(value >> 16);
	to[2] = (unsigned char)(value >> 8);
	to[3] = (unsigned char)value;
}

static uint32_t u32_at(const unsigned char *from)
{
	return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

static int read_all(int fd, unsigned char *to, size_t length)
{
	while (length > 0) {
		ssize_t got = read(fd, to, length);
		if (got <= 0)
			return -1;
		to += got;
		length -= (size_t)got;
	}
	return 0;
}

/* One round trip; the length of the answer, or 0. */
static uint32_t ask(int fd, const unsigned char *frame, size_t length, unsigned char *answer)
{
	unsigned char head[4];
	uint32_t size;

	if (write(fd, frame, length) != (ssize_t)length || read_all(fd, head, 4) != 0)
		return 0;
	size = u32_at(head);
	if (size == 0 || size > LARGEST || read_all(fd, answer, size) != 0)
		return 0;
	return size;
}

/* The first identity whose type name ends as certificates' do, or does not. */
static const unsigned char *first_identity(const unsigned char *answer, uint32_t size, int plain, uint32_t *length)
{
	uint32_t at = 5, count = size >= 5 ? u32_at(answer + 1) : 0;

	while (count-- > 0 && at + 8 <= size) {
		uint32_t blob = u32_at(answer + at), name;
		if (blob > size - at - 4 || blob < 4)
			return NULL;
		name = u32_at(answer + at + 4);
		if (name <= blob - 4 && (memmem(answer + at + 8, name, "-cert-v01@", 10) == NULL) == plain) {
			*length = blob;
			return answer + at + 4;
		}
		at += 4 + blob;
		if (at + 4 > size || u32_at(answer + at) > size - at - 4)
			return NULL;
		at += 4 + u32_at(answer + at);
	}
	return NULL;
}

static int sign_once(int fd, int plain, unsigned char *answer)
{
	static const unsigned char list[5] = { 0, 0, 0, 1, LIST };
	/* As long as a challenge of pam_ussh's is: SSHSIG, a name space, a SHA-512. */
	static const unsigned char data[111] = "SSHSIG";
	const unsigned char *blob;
	unsigned char *frame;
	uint32_t size, length = 0;
	int ok;

	size = ask(fd, list, sizeof list, answer);
	if (size == 0 || answer[0] != LISTED || !(blob = first_identity(answer, size, plain, &length)))
		return 0;
	frame = malloc(4 + 1 + 4 + length + 4 + sizeof data + 4);
	if (!frame)
		return 0;
	put_u32(frame, (uint32_t)(1 + 4 + length + 4 + sizeof data + 4));
	frame[4] = SIGN;
	put_u32(frame + 5, length);
	memcpy(frame + 9, blob, length);
	put_u32(frame + 9 + length, sizeof data);
	memcpy(frame + 13 + length, data, sizeof data);
	put_u32(frame + 13 + length + sizeof data, RSA_SHA2_512);
	ok = ask(fd, frame, 17 + length + sizeof data, answer) > 0 && answer[0] == SIGNED;
	free(frame);
	return ok;
}

int pam_sm_authenticate(pam_handle_t *handle, int flags, int argc, const char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = getenv("SSH_AUTH_SOCK");
	unsigned char *answer;
	int fd, ok = 0;

	(void)handle;
	(void)flags;
	if (!path || strlen(path) >= sizeof address.sun_path)
		return PAM_AUTH_ERR;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	answer = malloc(LARGEST);
	if (fd >= 0 && answer && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		ok = sign_once(fd, argc == 1 && strcmp(argv[0], "plain") == 0, answer);
	free(answer);
	if (fd >= 0)
		close(fd);
	return ok ? PAM_SUCCESS : PAM_AUTH_ERR;
}

int pam_sm_setcred(pam_handle_t *handle, int flags, int argc, const char **argv)
{
	(void)handle;
	(void)flags;
	(void)argc;
	(void)argv;
	return PAM_SUCCESS;
}
