<?php

// The story with predis.

declare(strict_types=1);

require __DIR__ . '/story.php';
require 'Predis/autoload.php';

/**
 * A client that has all Sentinels to ask. Predis crosses a Sentinel off its list when it
 * does not answer, and none is left in the end: then a new client must be made. In
 * PHP each request usually makes one anyway.
 */
function connect(array $settings): Predis\Client
{
    $factory = new Predis\Connection\Factory();
    $sentinels = array_map(
        // Predis 1.1 takes a Sentinel's password only in a connection that is ready made.
        fn (array $a) => $factory->create([
            'host' => $a[0], 'port' => (int) $a[1], 'timeout' => 0.5, 'password' => $settings['sentinelPassword'],
        ]),
        $settings['sentinels'],
    );
    $client = new Predis\Client($sentinels, [
        'replication' => 'sentinel',
        'service' => $settings['master'],
        'parameters' => ['password' => $settings['password']],
    ]);
    $client->getConnection()->setRetryLimit(3); // by default 20 times,
    $client->getConnection()->setRetryWait(100); // a second apart
    return $client;
}

/** Has the command done, and makes a new client if that failed. */
function with(?Predis\Client &$client, array $settings, string $command): mixed
{
    try {
        $client ??= connect($settings);
        return $client->$command($settings['key']);
    } catch (Predis\PredisException $error) {
        $client = null;
        throw $error;
    }
}

// A client reads from a replica until it writes, and then from the master.
$settings = settings();
$writer = null;
$reader = null;
run(
    increment: function () use (&$writer, $settings) { return with($writer, $settings, 'incr'); },
    read: function () use (&$writer, $settings) { return with($writer, $settings, 'get'); },
    readReplica: function () use (&$reader, $settings) { return with($reader, $settings, 'get'); },
);
