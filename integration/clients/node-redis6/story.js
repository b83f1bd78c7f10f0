'use strict';

// The story with node-redis 6.

require('../node/node-redis-story')(require('redis'));
