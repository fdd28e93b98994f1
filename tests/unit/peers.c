/* SPDX-License-Identifier: MIT */
#include "peers.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "faults.h"
#include "gt.h"
#include "handles.h"
#include "sys.h"
#include "uapi/userfaultfd.h"

struct order {
	uint64_t what, a, b;
};

/* --- the peer --------------------------------------------------------------------------------------------------------- */

static unsigned char *memory;
static uint64_t size;
static int own_uffd;

int new_uffd(uint64_t features)
{
	struct uffdi_api api = { .api = UFFDI_API_VERSION, .features = features };
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd;

	fd = gmemi_sys_userfaultfd(device, 0);
	if (device >= 0)
		close(device);
	if (fd < 0 || ioctl(fd, UFFDI_API, &api) == 0)
		return fd;
	close(fd);
	return -1;
}

static int64_t in_child(uint64_t a, uint64_t b)
{
	int ends[2], status;
	int64_t answer = -1;
	pid_t pid;

	if (pipe(ends))
		return -errno;
	pid = fork();
	if (pid == 0) {
		int first = touch(memory + a), second = touch(memory + b);

		answer = (first & 0xffff) | (int64_t)(second & 0xffff) << 16;
		_exit(write(ends[1], &answer, sizeof(answer)) != sizeof(answer));
	}
	close(ends[1]);
	if (read(ends[0], &answer, sizeof(answer)) != sizeof(answer))
		answer = -EPIPE;
	close(ends[0]);
	waitpid(pid, &status, 0);
	return answer;
}

static int64_t obey(const struct order *order)
{
	unsigned char *at = memory + order->a;
	void *moved;

	switch (order->what) {
	case PEER_READ:
		return touch(at + order->b);
	case PEER_WRITE:
		*at = (unsigned char)order->b;
		return 0;
	case PEER_DONTNEED:
		return madvise(at, order->b, MADV_DONTNEED) ? -errno : 0;
	case PEER_UNMAP:
		return munmap(at, order->b) ? -errno : 0;
	case PEER_MOVE:
		moved = mmap(NULL, order->b, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		moved = mremap(at, order->b, order->b, MREMAP_MAYMOVE | MREMAP_FIXED, moved);
		return moved == MAP_FAILED ? INT64_MIN : (unsigned char *)moved - memory;
	case PEER_FORK:
		return in_child(order->a, order->b);
	default:
		return fcntl(own_uffd, F_SETFL, fcntl(own_uffd, F_GETFL) & ~O_NONBLOCK) ? -errno : 0;
	}
}

static void send_fd(int socket, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec part = { &memory, sizeof(memory) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	if (fd < 0)
		message.msg_control = NULL, message.msg_controllen = 0;
	if (sendmsg(socket, &message, 0) < 0)
		_exit(1);
}

static void live(int socket, uint64_t events)
{
	struct uffdi_register range = { .length = size, .mode = UFFDI_REGISTER_MISSING };
	struct order order;

	alarm(100);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	own_uffd = new_uffd(events);
	range.start = (uintptr_t)memory;
	if (own_uffd >= 0 && ioctl(own_uffd, UFFDI_REGISTER, &range))
		_exit(1);
	send_fd(socket, own_uffd);
	while (read(socket, &order, sizeof(order)) == sizeof(order)) {
		int64_t answer = obey(&order);

		if (write(socket, &answer, sizeof(answer)) != sizeof(answer))
			break;
	}
	_exit(0);
}

/* --- the test's side -------------------------------------------------------------------------------------------------- */

static int receive_fd(int socket, unsigned char **at)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { at, sizeof(*at) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	int fd = -1;

	assert_int_equal(recvmsg(socket, &message, MSG_CMSG_CLOEXEC), sizeof(*at));
	if (message.msg_controllen)
		memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
	return fd;
}

struct peer peer_make(uint64_t pages, uint64_t events)
{
	struct peer peer = { .page = page(), .length = pages * page() };
	int ends[2], fd;

	alarm(100);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	size = peer.length;
	peer.pid = fork();
	assert_true(peer.pid >= 0);
	if (peer.pid == 0) {
		close(ends[0]);
		live(ends[1], events);
	}
	close(ends[1]);
	peer.orders = peer.answers = ends[0];
	fd = receive_fd(ends[0], &peer.at);
	if (fd < 0) {
		peer_end(&peer);
		gt_skip("no userfaultfd with these events for this user");
	}
	peer.vm = open_vm(-1);
	assert_int_equal(gmem_uffd_import(peer.vm, fd, &peer.uffd, NULL), 0);
	close(fd);
	return peer;
}

void peer_tell(struct peer *peer, enum peer_order what, uint64_t a, uint64_t b)
{
	struct order order = { what, a, b };

	assert_int_equal(write(peer->orders, &order, sizeof(order)), sizeof(order));
}

int64_t peer_answer(struct peer *peer)
{
	int64_t answer;

	assert_int_equal(read(peer->answers, &answer, sizeof(answer)), sizeof(answer));
	return answer;
}

int64_t peer_do(struct peer *peer, enum peer_order order, uint64_t a, uint64_t b)
{
	peer_tell(peer, order, a, b);
	return peer_answer(peer);
}

void peer_watch(struct peer *peer, uint64_t first, uint64_t count)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .flags = GMEM_REGISTER_BY_PEER, .gpa = UINT64_MAX };

	opts.hva = (uintptr_t)peer->at + first * peer->page;
	if (gmem_uffd_register(peer->uffd, NULL, first * peer->page, count * peer->page, &opts))
		fail_msg("%s", gmem_last_error());
}

void peer_kill(struct peer *peer)
{
	kill(peer->pid, SIGKILL);
	assert_int_equal(waitpid(peer->pid, NULL, 0), peer->pid);
	peer->pid = 0;
}

void peer_end(struct peer *peer)
{
	if (peer->pid)
		peer_kill(peer);
	close(peer->orders);
	gmem_uffd_destroy(peer->uffd);
	gmem_vm_close(peer->vm);
	alarm(0);
}
