// Loads for the benchmarks: UDP at a given rate, its receiver, and echo requests with their round-trip times.
//
//   load send SOURCE DESTINATION PORT SIZE SECONDS RATE SEGMENTS RUN
//       SIZE: octets of an IPv4 packet; RATE: packets per second, 0 for all that goes; SEGMENTS: packets per UDP_SEGMENT send, 1 for none.
//   load receive ADDRESS PORT RUN
//       Says "ready" and counts the packets of RUN; after its standard input ended and nothing came for a while, prints what came.
//   load ping SOURCE DESTINATION COUNT INTERVAL
//       INTERVAL: microseconds from one echo request to the next, so that the path is idle in between.
//
// Each prints one JSON object.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

enum { batch_limit = 64, segment_limit = 64, datagram_limit = 65507, headers = 28, receive_size = 2048 };
static const double behind_limit = 0.02;  // seconds; what a sender that was not scheduled does not make up for
static const double longest_drain = 5;   // seconds
static const int quiet_time = 150;       // milliseconds
static const double batch_time = 250e-6;  // seconds of traffic in one sendmmsg, so that low rates are smooth

// The first octets of every payload.
struct stamp {
  uint32_t run, number;
};

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void sleep_until(double when) {
  const struct timespec time = {(time_t)when, (long)((when - (double)(time_t)when) * 1e9)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) continue;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static struct sockaddr_in address_of(const char *text, int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, text, &address.sin_addr) != 1) {
    fprintf(stderr, "load: %s is not an IPv4 address\n", text);
    exit(2);
  }
  return address;
}

static int socket_at(int type, int protocol, const char *source, int port) {
  const struct sockaddr_in address = address_of(source, port);
  const int octets = 8 << 20;
  const int fd = socket(AF_INET, type, protocol);
  if (fd < 0) fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &octets, sizeof octets);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof octets);
  if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) fail("bind");
  return fd;
}

static unsigned smaller(unsigned left, unsigned right) { return left < right ? left : right; }

// Fill `messages` with numbered datagrams; each is `segments` payloads of `payload` octets.
static void number(char (*buffers)[datagram_limit], unsigned count, unsigned segments, unsigned payload, struct stamp *next) {
  for (unsigned message = 0; message < count; message++)
    for (unsigned segment = 0; segment < segments; segment++, next->number++)
      memcpy(buffers[message] + (size_t)segment * payload, next, sizeof *next);
}

static int send_load(char **word) {
  static char buffers[batch_limit][datagram_limit];
  const unsigned payload = (unsigned)atoi(word[3]) - headers;
  const double duration = atof(word[4]), rate = atof(word[5]);
  unsigned segments = smaller((unsigned)atoi(word[6]), segment_limit);
  segments = smaller(segments ? segments : 1, datagram_limit / payload);
  struct stamp next = {(uint32_t)atoi(word[7]), 0};

  const int fd = socket_at(SOCK_DGRAM, 0, word[0], 0);
  const struct sockaddr_in peer = address_of(word[1], atoi(word[2]));
  if (connect(fd, (const struct sockaddr *)&peer, sizeof peer) < 0) fail("connect");
  if (segments > 1 && setsockopt(fd, SOL_UDP, UDP_SEGMENT, &(int){(int)payload}, sizeof(int)) < 0) fail("UDP_SEGMENT");

  struct mmsghdr messages[batch_limit] = {0};
  struct iovec vectors[batch_limit];
  for (unsigned index = 0; index < batch_limit; index++) {
    vectors[index] = (struct iovec){buffers[index], (size_t)payload * segments};
    messages[index].msg_hdr.msg_iov = &vectors[index];
    messages[index].msg_hdr.msg_iovlen = 1;
  }
  unsigned batch = segments > 1 ? 8 : batch_limit;
  if (rate > 0) batch = smaller(batch, (unsigned)(rate * batch_time / segments) + 1);

  const double begin = now();
  double due = begin, time = begin;
  unsigned long packets = 0, errors = 0;
  while (time - begin < duration) {
    number(buffers, batch, segments, payload, &next);
    const int sent = sendmmsg(fd, messages, batch, 0);
    if (sent >= 0) {
      packets += (unsigned long)sent * segments;
      next.number -= (batch - (unsigned)sent) * segments;
    } else {
      // A refusal from afar (the receiver has gone) or a full queue costs this batch and no more.
      if (errno != ENOBUFS && errno != EAGAIN && errno != ECONNREFUSED && errno != EPERM) fail("sendmmsg");
      errors++;
      next.number -= batch * segments;
    }
    time = now();
    if (rate > 0) {
      due += (double)(sent > 0 ? (unsigned)sent : batch) * segments / rate;
      if (time - due > behind_limit) due = time;
      if (due - time > 10e-6) sleep_until(due);
      time = now();
    }
  }
  printf("{\"packets\": %lu, \"seconds\": %.6f, \"errors\": %lu}\n", packets, time - begin, errors);
  return 0;
}

static int receive_load(char **word) {
  static char buffers[batch_limit][receive_size];
  const int fd = socket_at(SOCK_DGRAM, 0, word[0], atoi(word[1]));
  const uint32_t run = (uint32_t)atoi(word[2]);
  struct mmsghdr messages[batch_limit] = {0};
  struct iovec vectors[batch_limit];
  for (unsigned index = 0; index < batch_limit; index++) {
    vectors[index] = (struct iovec){buffers[index], receive_size};
    messages[index].msg_hdr.msg_iov = &vectors[index];
    messages[index].msg_hdr.msg_iovlen = 1;
  }
  struct pollfd ends[2] = {{fd, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  unsigned long packets = 0, late = 0;
  uint32_t expected = 0;
  double first = 0, last = 0, end = 0;
  puts("ready");
  fflush(stdout);
  for (;;) {
    const int count = recvmmsg(fd, messages, batch_limit, MSG_DONTWAIT, NULL);
    if (count <= 0) {
      // Queues on the way may be deep: what they still hold is neither lost nor the next run's.
      if (end == 0) {
        poll(ends, 2, -1);
        if (ends[1].revents != 0) end = now();
      } else if (poll(ends, 1, quiet_time) == 0 || now() - end > longest_drain) {
        break;
      }
      continue;
    }
    int is_ours = 0;
    for (int index = 0; index < count; index++) {
      struct stamp stamp;
      if (messages[index].msg_len < sizeof stamp) continue;
      memcpy(&stamp, buffers[index], sizeof stamp);
      if (stamp.run != run) continue;
      packets++;
      is_ours = 1;
      if (stamp.number < expected) late++;
      else expected = stamp.number + 1;
    }
    if (!is_ours) continue;
    last = now();
    if (first == 0) first = last;
  }
  uint32_t memory[SK_MEMINFO_VARS] = {0};
  socklen_t size = sizeof memory;
  getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &size);
  printf("{\"packets\": %lu, \"seconds\": %.6f, \"out_of_order\": %lu, \"socket_drops\": %u}\n", packets, last - first, late,
         memory[SK_MEMINFO_DROPS]);
  return 0;
}

static uint16_t checksum(const void *octets, size_t size) {
  const uint8_t *octet = octets;
  uint32_t sum = 0;
  for (size_t index = 0; index + 1 < size; index += 2) sum += (uint32_t)(octet[index] << 8 | octet[index + 1]);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons((uint16_t)~sum);
}

// Waits for the reply; the seconds since `sent`, negative if none came in time.
static double reply_time(int fd, uint16_t identifier, uint16_t sequence, double sent, double patience) {
  for (double left = patience; left > 0; left = sent + patience - now()) {
    struct pollfd end = {fd, POLLIN, 0};
    const struct timespec limit = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
    if (ppoll(&end, 1, &limit, NULL) <= 0) continue;
    const double time = now();
    uint8_t packet[2048];
    const ssize_t size = recv(fd, packet, sizeof packet, 0);
    const size_t start = (packet[0] & 0xfU) * 4U;
    struct icmphdr head;
    if (size < (ssize_t)(start + sizeof head)) continue;
    memcpy(&head, packet + start, sizeof head);
    if (head.type == ICMP_ECHOREPLY && head.un.echo.id == identifier && head.un.echo.sequence == sequence) return time - sent;
  }
  return -1;
}

static int by_value(const void *left, const void *right) {
  const double one = *(const double *)left, other = *(const double *)right;
  return (one > other) - (one < other);
}

static int ping_load(char **word) {
  const int fd = socket_at(SOCK_RAW, IPPROTO_ICMP, word[0], 0);
  const struct sockaddr_in peer = address_of(word[1], 0);
  if (connect(fd, (const struct sockaddr *)&peer, sizeof peer) < 0) fail("connect");
  const int count = atoi(word[2]);
  const double interval = atof(word[3]) * 1e-6;
  double *times = calloc((size_t)count + 1, sizeof *times);
  int answered = 0;
  const uint16_t identifier = (uint16_t)getpid();
  double due = now();
  for (int turn = 0; turn < count; turn++, due += interval) {
    struct {
      struct icmphdr head;
      uint8_t data[56];
    } request = {.head = {.type = ICMP_ECHO, .un.echo = {identifier, htons((uint16_t)turn)}}};
    request.head.checksum = checksum(&request, sizeof request);
    sleep_until(due);
    const double sent = now();
    if (send(fd, &request, sizeof request, 0) < 0 && errno != ENOBUFS && errno != EPERM) fail("send");
    const double time = reply_time(fd, identifier, request.head.un.echo.sequence, sent, 0.5);
    if (time >= 0) times[answered++] = time * 1e6;
    if (now() > due + interval) due = now();
  }
  qsort(times, (size_t)answered, sizeof *times, by_value);
  const int last = answered ? answered - 1 : 0;
  printf("{\"sent\": %d, \"answered\": %d, \"minimum\": %.1f, \"median\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"maximum\": %.1f}\n", count,
         answered, times[0], times[last / 2], times[last * 9 / 10], times[last * 99 / 100], times[last]);
  free(times);
  return 0;
}

int main(int count, char **word) {
  prctl(PR_SET_TIMERSLACK, 1000UL);  // nanoseconds
  if (count == 10 && strcmp(word[1], "send") == 0) return send_load(word + 2);
  if (count == 5 && strcmp(word[1], "receive") == 0) return receive_load(word + 2);
  if (count == 6 && strcmp(word[1], "ping") == 0) return ping_load(word + 2);
  fputs("load send|receive|ping: see the head of load.c\n", stderr);
  return 2;
}
