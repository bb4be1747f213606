/* What TSan reads at start: its options, and the library whose own memory is not looked at. Linked into `make tsan` alone, so
 * that a program needs no environment to be run under it.
 *
 * librdkafka counts who holds a buffer by atomics, which TSan does not see in a library built without it: the last holder's
 * free() looks like a race. What our code touches, also in callbacks from there, counts as ever; so do locks (c11_threads.c). */

const char *__tsan_default_options(void);
const char *__tsan_default_suppressions(void);

const char *__tsan_default_options(void)
{
	/* A stop waits for a library only so long, and leaves its threads behind. */
	return "second_deadlock_stack=1:history_size=4:report_thread_leaks=0";
}

const char *__tsan_default_suppressions(void)
{
	return "called_from_lib:librdkafka.so\n";
}
