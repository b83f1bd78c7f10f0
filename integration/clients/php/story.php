<?php

// The story that the client programs of every language tell, so that the tests can
// compare their libraries: see ../go/story/story.go for orders and events.

declare(strict_types=1);

const BEAT = 0.1; // seconds between two increments
const REPLICA_READS = 20;

/** What is needed to connect, from the environment. */
function settings(): array
{
    return [
        'sentinels' => array_map(fn (string $a) => explode(':', $a), explode(',', getenv('SENTINELS'))),
        'master' => getenv('MASTER_NAME'),
        'password' => getenv('REDIS_PASSWORD'),
        'sentinelPassword' => getenv('SENTINEL_PASSWORD'),
        'key' => getenv('COUNTER_KEY'),
    ];
}

function say(string ...$words): void
{
    fwrite(STDOUT, implode(' ', $words) . "\n");
}

function report(string $event, string $failed, callable $action): void
{
    try {
        say($event, (string) (int) $action());
    } catch (Throwable $error) {
        say($failed, $error::class, str_replace("\n", ' ', $error->getMessage()));
    }
}

function obey(string $order, callable $read, callable $readReplica): void
{
    if ($order === 'read') {
        report($order, "$order fail", $read);
        return;
    }
    for ($i = 1; $i < REPLICA_READS; $i++) {
        try {
            $readReplica();
        } catch (Throwable) {
            // the last one is reported
        }
    }
    report($order, "$order fail", $readReplica);
}

/** Tells the story; the three take no arguments. */
function run(callable $increment, callable $read, callable $readReplica): void
{
    $increment();
    say('ready', (string) (int) $read());
    $next = microtime(true);
    while (true) {
        $readable = [STDIN];
        $none = null;
        $pause = max(0, (int) (($next - microtime(true)) * 1e6));
        if (stream_select($readable, $none, $none, 0, $pause) > 0) {
            $order = trim((string) fgets(STDIN));
            if ($order === '' || $order === 'quit') {
                break;
            }
            obey($order, $read, $readReplica);
        } else {
            $next = microtime(true) + BEAT;
            report('ack', 'fail', $increment);
        }
    }
    say('done');
}
