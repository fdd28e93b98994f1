/* SPDX-License-Identifier: MIT */
/* The part of Firecracker that a pager sees, without a guest: anonymous memory in two regions, a userfaultfd that watches it,
 * and the handshake. Instead of a guest, this process touches the memory and compares it with the image.
 *
 *     firecracker-mini SOCKET IMAGE [whole | halves | give-up | refused | silent | unwanted | huge]
 *
 * whole: everything is compared, written, and compared again. halves: one half is compared, a line is awaited on stdin, then
 * the other. give-up: as a balloon does, pages are given up, before and after they were touched, and must be zeros.
 * refused: hands over, and waits for the other end to close. silent: connects, says nothing, and stays until stdin ends.
 * unwanted: connects 100 times, says nothing, and waits for the other end to close them all, counting what it says before.
 * huge: as whole, in pages of 2 MiB. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define PAGE 4096u

struct vm {
	unsigned char *memory, *image;
	size_t length, page_size;
	int uffd, socket;
};

static void need(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static void load_image(struct vm *vm, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;

	need(fd >= 0 && fstat(fd, &status) == 0, path);
	vm->length = (size_t)status.st_size;
	vm->image = mmap(NULL, vm->length, PROT_READ, MAP_PRIVATE, fd, 0);
	need(vm->image != MAP_FAILED, "mmap of the image");
	close(fd);
}

/* Two regions side by side, as around the gap below 4 GiB. */
static void make_memory(struct vm *vm, int more_flags)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE };
	struct uffdio_register watch = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	vm->memory = mmap(NULL, vm->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | more_flags, -1, 0);
	need(vm->memory != MAP_FAILED, "mmap of the memory");
	vm->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	need(vm->uffd >= 0, "userfaultfd");
	need(ioctl(vm->uffd, UFFDIO_API, &api) == 0, "UFFDIO_API");
	for (int half = 0; half < 2; half++) {
		watch.range.start = (unsigned long)vm->memory + (half ? vm->length / 2 : 0);
		watch.range.len = vm->length / 2;
		need(ioctl(vm->uffd, UFFDIO_REGISTER, &watch) == 0, "UFFDIO_REGISTER");
	}
}

static void connect_to(struct vm *vm, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	need(strlen(path) < sizeof(address.sun_path), "the socket's path");
	strcpy(address.sun_path, path);
	vm->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	need(vm->socket >= 0 && connect(vm->socket, (struct sockaddr *)&address, sizeof(address)) == 0, path);
}

static void hand_over(const struct vm *vm)
{
	static const char region[] =
		"{\"base_host_virt_addr\":%lu,\"size\":%zu,\"offset\":%zu,\"page_size\":%zu,\"page_size_kib\":%zu}";
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} space = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	char text[512];
	struct iovec piece = { text, 0 };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &space, .msg_controllen = sizeof(space) };
	size_t half = vm->length / 2;

	for (size_t i = 0; i < 2; i++) {
		text[piece.iov_len++] = i ? ',' : '[';
		piece.iov_len += (size_t)snprintf(text + piece.iov_len, 200, region, (unsigned long)vm->memory + i * half, half,
						  i * half, vm->page_size, vm->page_size);
	}
	text[piece.iov_len++] = ']';
	memcpy(CMSG_DATA(&space.header), &vm->uffd, sizeof(vm->uffd));
	need(sendmsg(vm->socket, &message, 0) == (ssize_t)piece.iov_len, "sendmsg");
}

static void compare(const struct vm *vm, size_t begin, size_t end, const char *what)
{
	for (size_t at = begin; at < end; at += PAGE) {
		if (memcmp(vm->memory + at, vm->image + at, PAGE) == 0)
			continue;
		printf("WRONG: %s, page %zu\n", what, at / PAGE);
		exit(1);
	}
}

static void write_all(const struct vm *vm)
{
	for (size_t at = 0; at < vm->length; at += PAGE)
		vm->memory[at] = (unsigned char)~vm->image[at];
	for (size_t at = 0; at < vm->length; at += PAGE) {
		if (vm->memory[at] != (unsigned char)~vm->image[at] ||
		    memcmp(vm->memory + at + 1, vm->image + at + 1, PAGE - 1)) {
			printf("WRONG: written page %zu\n", at / PAGE);
			exit(1);
		}
	}
}

static void await_line(void)
{
	char line[64];

	need(printf("waiting\n") > 0 && fflush(stdout) == 0, "stdout");
	if (!fgets(line, sizeof(line), stdin))
		exit(0);
}

static void zeros(const struct vm *vm, size_t begin, size_t end)
{
	for (size_t at = begin; at < end; at++) {
		if (!vm->memory[at])
			continue;
		printf("WRONG: given up byte %zu\n", at);
		exit(1);
	}
}

/* The first quarter was touched, the second not. */
static void give_up(const struct vm *vm)
{
	size_t quarter = vm->length / 4;

	compare(vm, 0, quarter, "before it is given up");
	need(madvise(vm->memory, quarter, MADV_DONTNEED) == 0, "MADV_DONTNEED");
	need(madvise(vm->memory + quarter, quarter, MADV_DONTNEED) == 0, "MADV_DONTNEED");
	zeros(vm, 0, 2 * quarter);
	compare(vm, 2 * quarter, vm->length, "what was kept");
}

static void behave(const struct vm *vm, const char *mode)
{
	char byte;

	if (strcmp(mode, "give-up") == 0) {
		give_up(vm);
		return;
	}
	if (strcmp(mode, "refused") == 0) {
		need(read(vm->socket, &byte, 1) == 0 || errno == ECONNRESET, "the other end speaks");
		return;
	}
	compare(vm, 0, vm->length / 2, "first half");
	if (strcmp(mode, "halves") == 0)
		await_line();
	compare(vm, vm->length / 2, vm->length, "second half");
	if (strcmp(mode, "whole") == 0 || vm->page_size > PAGE)
		write_all(vm);
}

static size_t read_to_the_end(int socket)
{
	char bytes[1024];
	size_t count = 0;
	ssize_t n;

	while ((n = read(socket, bytes, sizeof(bytes))) > 0)
		count += (size_t)n;
	need(n == 0 || errno == ECONNRESET, "read");
	return count;
}

static void be_unwanted(const char *path)
{
	struct vm connections[100];
	size_t said = 0;

	for (size_t i = 0; i < 100; i++)
		connect_to(&connections[i], path);
	for (size_t i = 0; i < 100; i++)
		said += read_to_the_end(connections[i].socket);
	printf("unwanted: %zu bytes\n", said);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 3 ? argv[3] : "whole";
	struct vm vm = { 0 };

	if (argc < 3 || argc > 4 || !strstr("whole halves give-up refused silent unwanted huge", mode)) {
		fprintf(stderr, "Usage: firecracker-mini SOCKET IMAGE [whole | halves | give-up | refused | silent | unwanted | huge]\n");
		return 2;
	}
	if (strcmp(mode, "unwanted") == 0) {
		be_unwanted(argv[1]);
		return 0;
	}
	vm.page_size = strcmp(mode, "huge") == 0 ? 2 << 20 : PAGE;
	load_image(&vm, argv[2]);
	make_memory(&vm, vm.page_size > PAGE ? MAP_HUGETLB : MAP_NORESERVE);
	connect_to(&vm, argv[1]);
	if (strcmp(mode, "silent") == 0) {
		await_line();
		return 0;
	}
	hand_over(&vm);
	behave(&vm, mode);
	printf("right\n");
	return 0;
}
