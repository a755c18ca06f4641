/* A library that derives no secrets but passes some on, as a TLS library would, and a program that uses it. */
#include <stdio.h>
#include <string.h>

static volatile unsigned sum;

__attribute__((noinline)) void toy_secret(const char *label, const unsigned char *secret, const unsigned char *random)
{
	sum += label[0] + secret[0] + random[0];
}

__attribute__((noinline)) void toy_early(long a, long b, long c, long d, long e, long f, const unsigned char *secret,
					 const unsigned char *random)
{
	sum += a + b + c + d + e + f + secret[0] + random[0];
}

int main(void)
{
	unsigned char secret[48], early[48], random[32];
	char line[16];

	/* Once for each line of its input. */
	while (fgets(line, sizeof(line), stdin)) {
		memset(secret, line[0], sizeof(secret));
		memset(early, line[0] + 1, sizeof(early));
		memset(random, line[1], sizeof(random));
		toy_secret("master", secret, random);
		toy_early(1, 2, 3, 4, 5, 6, early, random);
		puts("done");
		fflush(stdout);
	}
	return 0;
}
