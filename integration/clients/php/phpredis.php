<?php

// The story with phpredis. RedisSentinel only asks; following the master is the
// application's own work, and this is how it goes: keep a connection until it fails
// or is refused as a replica's, then ask the Sentinels again.

declare(strict_types=1);

require __DIR__ . '/story.php';

/** Connections to the master and to replicas of the day. */
final class Nodes
{
    private const TIMEOUT = 0.5; // seconds, to connect to anything and to ask a Sentinel

    private ?Redis $master = null;
    private ?Redis $replica = null;

    public function __construct(private array $settings)
    {
    }

    public function onMaster(callable $command): mixed
    {
        try {
            $this->master ??= $this->connect(fn (RedisSentinel $s) => $s->getMasterAddrByName($this->settings['master']));
            return $command($this->master);
        } catch (RedisException $error) {
            $this->master = null; // it has gone, or it is no master any more (READONLY)
            throw $error;
        }
    }

    public function onReplica(callable $command): mixed
    {
        try {
            $this->replica ??= $this->connect(fn (RedisSentinel $s) => $this->anyReplica($s));
            return $command($this->replica);
        } catch (RedisException $error) {
            $this->replica = null;
            throw $error;
        }
    }

    private function anyReplica(RedisSentinel $sentinel): array|false
    {
        $healthy = array_filter($sentinel->slaves($this->settings['master']) ?: [], fn (array $r) => $r['flags'] === 'slave');
        if ($healthy === []) {
            return false;
        }
        $one = $healthy[array_rand($healthy)];
        return [$one['ip'], $one['port']];
    }

    /** Connects to the address that the first Sentinel with an answer gives. */
    private function connect(callable $ask): Redis
    {
        foreach ($this->settings['sentinels'] as [$host, $port]) {
            try {
                $address = $ask(new RedisSentinel($host, (int) $port, self::TIMEOUT, null, 0, self::TIMEOUT, $this->settings['sentinelPassword']));
                if ($address) {
                    $redis = new Redis();
                    $redis->connect($address[0], (int) $address[1], self::TIMEOUT);
                    $redis->auth($this->settings['password']);
                    return $redis;
                }
            } catch (RedisException) {
                // the next one
            }
        }
        throw new RedisException('no Sentinel knows a node to connect to');
    }
}

$settings = settings();
$nodes = new Nodes($settings);

// phpredis answers false where the server answered an error, but for those it throws.
function checked(Redis $redis, mixed $reply): mixed
{
    if ($reply === false) {
        throw new RedisException($redis->getLastError() ?? 'no reply');
    }
    return $reply;
}

run(
    increment: fn () => $nodes->onMaster(fn (Redis $r) => checked($r, $r->incr($settings['key']))),
    read: fn () => $nodes->onMaster(fn (Redis $r) => checked($r, $r->get($settings['key']))),
    readReplica: fn () => $nodes->onReplica(fn (Redis $r) => checked($r, $r->get($settings['key']))),
);
