'use strict';

// The story with node-redis 5.

require('../node/node-redis-story')(require('redis'));
